/* An LSTM language model: word vectors, LSTM layers, and a softmax that shares the vectors, in bands of frequency, as
   asr.models.language has it. Weights in 8 bits, sums in 32, states as floats. */
#pragma once
#include "int8.h"
#include <stdlib.h>

#define UNKNOWN 1u  /* id of a word that the model does not know */
#define GROUP 32u   /* vectors at a time */
#define CHUNK 64u   /* blocks of a softmax at a time */

typedef struct {
    Matrix input, recurrent; /* (4 H, width or H), (4 H, H): gates i, f, g, o */
    const float *bias;       /* (4 H,) */
} Layer;

typedef struct {
    Matrix vectors; /* (W, w) of its words */
    Matrix narrow;  /* (w, E) to their width */
    Matrix widen;   /* (E, w) and back; its scales are 1, and the vectors' are the other's */
} Band;

typedef struct {
    const Layer *layers;
    const Band *rare;       /* (bands - 1,) all but the first */
    const uint32_t *ends;   /* (bands,) ids at which the bands end */
    const float *head_bias; /* of each row of the head */
    const float *output_bias;
    Matrix head;   /* (ends[0] + bands - 1, E) the vectors of the first band, and one for each other band */
    Matrix output; /* (E, H) */
    uint32_t depth, size, width, bands; /* L, H, E */
} Lstm;

/* Numbers of a state: hidden (L, H), then cell (L, H). */
static inline uint32_t state_size(const Lstm *m) { return 2 * m->depth * m->size; }

typedef struct {
    char *memory;
    size_t room;
    /* Parts of it, for GROUP vectors: */
    Vectors x;
    float *gates, *more, *vectors, *outputs, *sums, *within;
    uint32_t *rows;
} Work;

static inline size_t wider(size_t a, size_t b) { return a > b ? a : b; }

/* Divide memory for a model; 0 without any. */
static int prepare(Work *w, const Lstm *m) {
    size_t columns = wider(wider(m->size, m->width), 4), scores = wider(4 * m->size, LANES * CHUNK);
    for (uint32_t k = 0; k + 1 < m->bands; k++) columns = wider(columns, m->rare[k].narrow.rows);
    columns = columns + 8 + LANES, scores += LANES;
    size_t wanted = GROUP * (sizeof(float) * (2 * scores + 3 * columns + 8) + 2 * columns) + 256;
    if (wanted > w->room) {
        char *larger = realloc(w->memory, wanted);
        if (!larger) return 0;
        w->memory = larger, w->room = wanted;
    }
    float *next = (float *)w->memory;
    w->gates = next, next += GROUP * scores;
    w->more = next, next += GROUP * scores;
    w->vectors = next, next += GROUP * columns;
    w->outputs = next, next += GROUP * columns;
    w->within = next, next += GROUP * columns;
    w->sums = next, next += 2 * GROUP;
    w->x.scales = next, next += GROUP;
    w->rows = (uint32_t *)next, next += GROUP;
    w->x.codes = next;
    return 1;
}

/* e^x of eight numbers, to 2e-7 of it, for x between -87 and 88 (the polynomial of Cephes' expf). */
INLINED void exp_eight(Eight *numbers) {
    const Eight zero = {0}, low = zero - 87, high = zero - 88; /* of x, and of -x */
    Eight x = *numbers;
    raise_to(&x, &low);
    x = -x;
    raise_to(&x, &high);
    x = -x;
    Eight whole = (x * 1.44269504f + 12582912.f) - 12582912.f; /* rounds: 1.5 * 2^23 */
    x = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Eight p = x * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * x + 8.3334519073e-3f, p = p * x + 4.1665795894e-2f;
    p = p * x + 1.6666665459e-1f, p = p * x + 5.0000001201e-1f;
    EightWords power = (__builtin_convertvector(whole, EightWords) + 127) << 23;
    *numbers = (p * x * x + x + 1) * (Eight)power;
}

/* e^x of numbers, in their place. */
INLINED void exp_all(float *numbers, uint32_t count) {
    uint32_t k = 0;
    for (; k + LANES <= count; k += LANES) exp_eight((Eight *)(numbers + k));
    Eight rest = {0};
    if (k == count) return;
    memcpy(&rest, numbers + k, (count - k) * sizeof(float));
    exp_eight(&rest);
    memcpy(numbers + k, &rest, (count - k) * sizeof(float));
}

/* Gates (4 H,), in two parts and a bias, and the cell before make the cell and the hidden state; the parts are changed. */
INLINED void update_cell_of(float *gates, float *more, const float *bias, const float *before, float *cell,
                            float *hidden, uint32_t size) {
    float *forget = gates + size, *given = gates + 2 * size, *leave = gates + 3 * size;
    for (uint32_t k = 0; k < 4 * size; k++) gates[k] = -(gates[k] + more[k] + bias[k]);
    for (uint32_t k = 0; k < size; k++) given[k] *= 2;
    exp_all(gates, 4 * size);
    for (uint32_t k = 0; k < size; k++) {
        cell[k] = before[k] / (1 + forget[k]) + (2 / (1 + given[k]) - 1) / (1 + gates[k]);
        more[k] = -2 * cell[k];
    }
    exp_all(more, size);
    for (uint32_t k = 0; k < size; k++) hidden[k] = (2 / (1 + more[k]) - 1) / (1 + leave[k]);
}
WIDE(update_cell, (float *gates, float *more, const float *bias, const float *before, float *cell, float *hidden,
                   uint32_t size), gates, more, bias, before, cell, hidden, size)

/* Add e^(score - most) of each score to a sum, `most` being the largest score until now; the scores are changed. */
INLINED void add_powers_of(float *scores, uint32_t count, float *most, float *sum) {
    float highest = largest(scores, count, *most), total = *sum * expf(*most - highest);
    for (uint32_t k = 0; k < count; k++) scores[k] -= highest;
    exp_all(scores, count);
    Eight sums = {0};
    uint32_t k = 0;
    for (; k + LANES <= count; k += LANES) sums += *(const Eight *)(scores + k);
    for (; k < count; k++) total += scores[k];
    for (uint32_t j = 0; j < LANES; j++) total += sums[j];
    *most = highest, *sum = total;
}
WIDE(add_powers, (float *scores, uint32_t count, float *most, float *sum), scores, count, most, sum)

/* Quantise vectors (count, stride) of numbers, which are changed. */
static void put_vectors(Vectors *x, float *numbers, uint32_t count, uint32_t stride, const Matrix *m, uint32_t used) {
    x->count = count, x->columns = m->columns;
    for (uint32_t n = 0; n < count; n++) put_vector(x, n, numbers + (size_t)n * stride, used);
}

/* Logarithms (count,) of the sums of e^score over the rows of a matrix. */
static void log_sums(Work *w, const Matrix *m, const float *bias, float *result) {
    float *sum = w->sums, *most = w->sums + GROUP, *scores = w->gates;
    uint32_t all = blocks_of(m), stride = LANES * CHUNK;
    for (uint32_t n = 0; n < w->x.count; n++) sum[n] = 0, most[n] = -1e30f;
    for (uint32_t block = 0; block < all; block += CHUNK) {
        uint32_t blocks = all - block < CHUNK ? all - block : CHUNK, row = LANES * block;
        uint32_t rows = m->rows - row < stride ? m->rows - row : stride;
        kernel->product(m, block, blocks, &w->x, scores, stride);
        for (uint32_t n = 0; n < w->x.count; n++) {
            float *of = scores + (size_t)n * stride;
            for (uint32_t k = 0; bias && k < rows; k++) of[k] += bias[row + k];
            add_powers(of, rows, &most[n], &sum[n]);
        }
    }
    for (uint32_t n = 0; n < w->x.count; n++) result[n] = most[n] + logf(sum[n]);
}

/* The band of a word. */
static inline uint32_t band_of(const Lstm *m, uint32_t word) {
    uint32_t band = 0;
    while (word >= m->ends[band]) band++;
    return band;
}

/* Vectors (count, E) of words. */
static void embed(const Lstm *m, Work *w, const uint32_t *words, uint32_t count) {
    for (uint32_t n = 0; n < count; n++) {
        uint32_t word = words[n], band = band_of(m, word);
        float *vector = w->vectors + (size_t)n * m->width;
        if (!band) {
            for (uint32_t k = 0; k < m->width; k++) vector[k] = code_at(&m->head, word, k) * m->head.scales[word];
            continue;
        }
        const Band *rare = &m->rare[band - 1];
        uint32_t row = word - m->ends[band - 1], width = rare->narrow.rows;
        for (uint32_t k = 0; k < width; k++)
            w->within[k] = code_at(&rare->vectors, row, k) * rare->vectors.scales[row] * rare->narrow.scales[k];
        put_vectors(&w->x, w->within, 1, width, &rare->widen, width);
        kernel->product(&rare->widen, 0, blocks_of(&rare->widen), &w->x, w->gates, 0);
        memcpy(vector, w->gates, m->width * sizeof(float));
    }
}

/* Read a word in each of some states, at most GROUP; `before` and `after` may be the same states. */
static void read_words(const Lstm *m, Work *w, const uint32_t *words, const float *const *before, float *const *after,
                       uint32_t count) {
    uint32_t size = m->size, wide = LANES * blocks_of(&m->layers->input);
    embed(m, w, words, count);
    for (uint32_t layer = 0; layer < m->depth; layer++) {
        const Layer *of = &m->layers[layer];
        uint32_t cells = m->depth * size + layer * size, taken = layer ? size : m->width;
        put_vectors(&w->x, w->vectors, count, taken, &of->input, taken);
        kernel->product(&of->input, 0, blocks_of(&of->input), &w->x, w->gates, wide);
        for (uint32_t n = 0; n < count; n++)
            memcpy(w->outputs + (size_t)n * size, before[n] + layer * size, size * sizeof(float));
        put_vectors(&w->x, w->outputs, count, size, &of->recurrent, size);
        kernel->product(&of->recurrent, 0, blocks_of(&of->recurrent), &w->x, w->more, wide);
        for (uint32_t n = 0; n < count; n++) {
            float *hidden = after[n] + layer * size;
            size_t gates = (size_t)n * wide;
            update_cell(w->gates + gates, w->more + gates, of->bias, before[n] + cells, after[n] + cells, hidden, size);
            memcpy(w->vectors + (size_t)n * size, hidden, size * sizeof(float));
        }
    }
}

/* What states (count,), at most GROUP, foretell the next word from, in `outputs` (count, E). */
static void foretell(const Lstm *m, Work *w, const float *const *states, uint32_t count) {
    uint32_t last = (m->depth - 1) * m->size;
    for (uint32_t n = 0; n < count; n++)
        memcpy(w->vectors + (size_t)n * m->size, states[n] + last, m->size * sizeof(float));
    put_vectors(&w->x, w->vectors, count, m->size, &m->output, m->size);
    uint32_t stride = LANES * blocks_of(&m->output);
    kernel->product(&m->output, 0, blocks_of(&m->output), &w->x, w->gates, stride);
    for (uint32_t n = 0; n < count; n++)
        for (uint32_t k = 0; k < m->width; k++)
            w->outputs[n * m->width + k] = w->gates[(size_t)n * stride + k] + m->output_bias[k];
}

/* Natural-log probabilities (words,) of words, each after one of `outputs` (count, E), at most GROUP; `after` says which
   one, of which the first is number `first`, and rises. */
static void log_probs(const Lstm *m, Work *w, uint32_t count, const uint32_t *words, const uint32_t *after,
                      uint32_t first, uint32_t number, float *result) {
    float sums[GROUP];
    memcpy(w->vectors, w->outputs, (size_t)count * m->width * sizeof(float));
    put_vectors(&w->x, w->vectors, count, m->width, &m->head, m->width);
    log_sums(w, &m->head, m->head_bias, sums);
    for (uint32_t k = 0; k < number; k++) {
        uint32_t band = band_of(m, words[k]), row = band ? m->ends[0] + band - 1 : words[k], n = after[k] - first;
        result[k] = row_product(&m->head, row, &w->x, n) + m->head_bias[row] - sums[n];
    }
    for (uint32_t band = 1; band < m->bands; band++) {
        const Band *rare = &m->rare[band - 1];
        uint32_t begin = m->ends[band - 1], end = m->ends[band], asked = 0, width = rare->narrow.rows;
        for (uint32_t k = 0; k < number; k++) {
            if (words[k] < begin || words[k] >= end || (asked && w->rows[asked - 1] == after[k] - first)) continue;
            memcpy(w->vectors + (size_t)asked * m->width, w->outputs + (size_t)(after[k] - first) * m->width,
                   m->width * sizeof(float));
            w->rows[asked++] = after[k] - first;
        }
        if (!asked) continue;
        put_vectors(&w->x, w->vectors, asked, m->width, &rare->narrow, m->width);
        uint32_t stride = LANES * blocks_of(&rare->narrow);
        kernel->product(&rare->narrow, 0, blocks_of(&rare->narrow), &w->x, w->within, stride);
        put_vectors(&w->x, w->within, asked, stride, &rare->vectors, width);
        log_sums(w, &rare->vectors, NULL, sums);
        for (uint32_t k = 0, n = 0; k < number; k++) {
            if (words[k] < begin || words[k] >= end) continue;
            while (w->rows[n] != after[k] - first) n++;
            result[k] += row_product(&rare->vectors, words[k] - begin, &w->x, n) - sums[n];
        }
    }
}

/* Read words (frames, batch), each row of the batch in its state (batch, 2 L H), which goes on. The outputs
   (frames, batch, E) are what the word after each is foretold from. Returns 0 without memory. */
EXPORT int rill_lstm_read(const Lstm *m, const uint32_t *words, uint32_t frames, uint32_t batch, float *states,
                          float *outputs) {
    Work work = {0}, *w = &work;
    float *of[GROUP];
    if (!prepare(w, m)) return 0;
    for (uint32_t t = 0; t < frames; t++)
        for (uint32_t b = 0; b < batch; b += GROUP) {
            uint32_t count = batch - b < GROUP ? batch - b : GROUP;
            for (uint32_t n = 0; n < count; n++) of[n] = states + (size_t)(b + n) * state_size(m);
            read_words(m, w, words + (size_t)t * batch + b, (const float *const *)of, of, count);
            foretell(m, w, (const float *const *)of, count);
            memcpy(outputs + ((size_t)t * batch + b) * m->width, w->outputs, (size_t)count * m->width * sizeof(float));
        }
    free(w->memory);
    return 1;
}

/* Natural-log probabilities (number,) of words, each after one of outputs (N, E): `after` rises. Returns 0 without
   memory. */
EXPORT int rill_lstm_log_probs(const Lstm *m, const float *outputs, const uint32_t *words, const uint32_t *after,
                               uint32_t number, float *result) {
    Work work = {0}, *w = &work;
    if (!prepare(w, m)) return 0;
    for (uint32_t begin = 0, end; begin < number; begin = end) {
        uint32_t first = after[begin];
        for (end = begin; end < number && after[end] - first < GROUP; end++) continue;
        uint32_t count = after[end - 1] - first + 1;
        memcpy(w->outputs, outputs + (size_t)first * m->width, (size_t)count * m->width * sizeof(float));
        log_probs(m, w, count, words + begin, after + begin, first, end - begin, result + begin);
    }
    free(w->memory);
    return 1;
}
