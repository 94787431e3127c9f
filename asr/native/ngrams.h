/* Look-up in a back-off n-gram model (Katz 1987) that lies in sorted arrays, as asr.lm.large_ngrams lays them out. */
#pragma once
#include <stdint.h>

#define NONE 0xFFFFFFFFu /* no context, no record */

typedef struct {
    const uint32_t *last;           /* (M,) last word of each n-gram; those of one word come first, word by word */
    const uint8_t *prob_codes;      /* (M,) */
    const float *prob_values;       /* (256,) natural logarithms */
    const uint64_t *marks;          /* (M,) bits: whether an n-gram is a context */
    const uint32_t *ranks;          /* contexts before each 64 n-grams */
    const uint8_t *backoff_codes;   /* (C,) of each context */
    const float *backoff_values;    /* (256,) */
    const uint32_t *children;       /* (C + 1,) where the n-grams begin that continue each context */
    const uint32_t *suffixes;       /* (C,) each context without its first word, as a context */
    uint32_t words;                 /* V: words are 1..V, 0 ends a sentence, V + 1 begins one */
} Ngrams;

static inline uint32_t bits_of(uint64_t x) { /* how many are set; compilers know this form */
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (uint32_t)((x + (x >> 4) & 0x0F0F0F0F0F0F0F0Fu) * 0x0101010101010101u >> 56);
}

/* The number of an n-gram among the contexts, NONE where nothing continues it. */
static inline uint32_t context_of(const uint64_t *marks, const uint32_t *ranks, uint32_t ngram) {
    uint64_t before = marks[ngram >> 6] << (63 - (ngram & 63)); /* the mark itself is the highest bit */
    return before >> 63 ? ranks[ngram >> 6] + bits_of(before) - 1 : NONE;
}

/* The n-gram that continues a context with a word, NONE where the model lacks it. */
static inline uint32_t continuation(const Ngrams *g, uint32_t context, uint32_t word) {
    uint32_t low = g->children[context], high = g->children[context + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->last[middle] < word) low = middle + 1; else high = middle;
    }
    return low < g->children[context + 1] && g->last[low] == word ? low : NONE;
}

/* The context of a word alone. */
static inline uint32_t context_of_word(const Ngrams *g, uint32_t word) { return context_of(g->marks, g->ranks, word); }

/* Cost in nats of a word after a context (NONE: after nothing known), and the longest context after it. */
static inline float word_cost_after(const Ngrams *g, uint32_t context, uint32_t word, uint32_t *next) {
    float backed_off = 0;
    for (uint32_t place = context; place != NONE; place = g->suffixes[place]) {
        uint32_t found = continuation(g, place, word);
        if (found == NONE) {
            backed_off += g->backoff_values[g->backoff_codes[place]];
            continue;
        }
        float cost = -(backed_off + g->prob_values[g->prob_codes[found]]);
        /* A word that follows a context follows all its suffixes. */
        while ((*next = context_of(g->marks, g->ranks, found)) == NONE && place != NONE) {
            place = g->suffixes[place];
            found = place == NONE ? word : continuation(g, place, word);
        }
        return cost;
    }
    *next = context_of_word(g, word);
    return -(backed_off + g->prob_values[g->prob_codes[word]]);
}
