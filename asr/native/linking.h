/* What is done once to models that come out of their files, before they are searched. */
#pragma once
#include "types.h"

/* Whether an arc of a state comes before another: those that read nothing first, then phone by phone those that write no
   word and those that write one, the cheapest first. */
static inline int comes_before(const Arc *one, const Arc *other) {
    uint32_t a = group_of(one), b = group_of(other);
    return a != b ? a < b : one->weight < other->weight;
}

static int compare_arcs(const void *one, const void *other) {
    return comes_before(one, other) ? -1 : comes_before(other, one);
}

/* Sort the arcs of each of some states, and mark those whose target has arcs that read nothing. */
EXPORT void rill_graph_link(const uint32_t *first, Arc *arcs, uint32_t states) {
    for (uint32_t state = 0; state < states; state++) {
        Arc *of = arcs + first[state];
        uint32_t count = first[state + 1] - first[state];
        if (count > 32) {
            qsort(of, count, sizeof(Arc), compare_arcs);
            continue;
        }
        for (uint32_t k = 1; k < count; k++) {
            Arc one = of[k];
            uint32_t place = k;
            for (; place && comes_before(&one, &of[place - 1]); place--) of[place] = of[place - 1];
            of[place] = one;
        }
    }
    for (uint32_t k = 0; k < first[states]; k++) {
        uint32_t target = arcs[k].target;
        if (first[target] < first[target + 1] && !(arcs[first[target]].label & 63)) arcs[k].target |= PASSES;
    }
}

/* Fill `last` and `suffixes` of a model, an n-gram model as LargeNgrams.pack of asr.lm.large_ngrams packs it,
   of `entries` n-grams, `words` of them single words, and `contexts` contexts.

   steps: (3, entries - words) bytes, the lowest first: how far each n-gram's place among the words that follow the
   context's suffix is from that of the n-gram before it, less 1.
   Returns 0 where these are no model. */
EXPORT int rill_ngrams_link(const uint8_t *steps, const uint64_t *marks, const uint32_t *ranks,
                              const uint32_t *children, uint32_t words, uint32_t entries, uint32_t contexts,
                              uint32_t *last, uint32_t *suffixes) {
    const uint8_t *low = steps, *middle = low + (entries - words), *high = middle + (entries - words);
    uint32_t linked = 0; /* contexts whose suffix is known */
    for (uint32_t word = 0; word < words; word++) {
        last[word] = word;
        if (context_of(marks, ranks, word) != NONE) suffixes[linked++] = NONE;
    }
    uint32_t alone = linked; /* contexts of one word */
    for (uint32_t context = 0; context < contexts; context++) {
        if (context >= linked) return 0;
        uint32_t shorter = suffixes[context], place = 0xFFFFFFFFu;
        uint32_t begin = context < alone ? 0 : children[shorter], end = context < alone ? words : children[shorter + 1];
        for (uint32_t entry = children[context]; entry < children[context + 1]; entry++) {
            uint32_t k = entry - words;
            place += 1 + (low[k] | (uint32_t)middle[k] << 8 | (uint32_t)high[k] << 16);
            if (place >= end - begin) return 0;
            uint32_t suffix = begin + place;
            if (suffix >= entry) return 0;
            last[entry] = last[suffix];
            if (context_of(marks, ranks, entry) == NONE) continue;
            if (linked == contexts || (suffixes[linked++] = context_of(marks, ranks, suffix)) == NONE) return 0;
        }
    }
    return linked == contexts;
}
