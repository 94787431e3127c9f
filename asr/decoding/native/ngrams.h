/* Look-up in a back-off n-gram model (Katz 1987) that lies in sorted arrays, as asr.lm.large_ngrams lays them out. */
#pragma once
#include <stdint.h>

#define NONE 0xFFFFFFFFu /* no context, no record */

typedef struct {
    const uint32_t *last;           /* (M,) last word of each n-gram; contexts come first, those of one word by word */
    const uint8_t *prob_codes;      /* (M,) */
    const float *prob_values;       /* (256,) natural logarithms */
    const uint8_t *backoff_codes;   /* (C,) */
    const float *backoff_values;    /* (256,) */
    const uint32_t *children;       /* (C + 1,) where the n-grams begin that continue each context */
    const uint32_t *suffixes;       /* (C,) each context without its first word */
    uint32_t contexts;              /* C */
    uint32_t words;                 /* V: words are 1..V, 0 ends a sentence, V + 1 begins one */
} Ngrams;

/* The n-gram that continues a context with a word, NONE where the model lacks it. */
static inline uint32_t continuation(const Ngrams *g, uint32_t context, uint32_t word) {
    uint32_t low = g->children[context], high = g->children[context + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->last[middle] < word) low = middle + 1; else high = middle;
    }
    return low < g->children[context + 1] && g->last[low] == word ? low : NONE;
}

/* The longest context that still matters: one that nothing continues equals the one without its first word. */
static inline uint32_t mattering(const Ngrams *g, uint32_t context) {
    while (context != NONE && g->children[context] == g->children[context + 1]) context = g->suffixes[context];
    return context;
}

/* Cost in nats of a word after a context (NONE: after nothing known), and the context after it. */
static inline float word_cost_after(const Ngrams *g, uint32_t context, uint32_t word, uint32_t *next) {
    float backed_off = 0;
    for (uint32_t place = context; place != NONE; place = g->suffixes[place]) {
        uint32_t found = continuation(g, place, word);
        if (found != NONE) {
            float cost = -(backed_off + g->prob_values[g->prob_codes[found]]);
            while (found >= g->contexts) { /* of the highest order: what follows has a shorter context */
                place = g->suffixes[place];
                found = place == NONE ? word : continuation(g, place, word);
                while (found == NONE) {
                    place = g->suffixes[place];
                    found = place == NONE ? word : continuation(g, place, word);
                }
            }
            *next = mattering(g, found);
            return cost;
        }
        backed_off += g->backoff_values[g->backoff_codes[place]];
    }
    *next = mattering(g, word);
    return -(backed_off + g->prob_values[g->prob_codes[word]]);
}
