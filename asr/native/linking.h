/* Linking an n-gram model that comes out of its file: see LargeNgrams.pack of asr.lm.large_ngrams. */
#pragma once
#include "ngrams.h"

/* Fill `last` and `suffixes` of a model of `entries` n-grams, `words` of them single words, and `contexts` contexts.

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
