/* The network as the kernels read it: its weights packed, and the memory that a call works in. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 16,       // floats of a vector
    BLOCK = 64,       // outputs of a product that lie together
    ROWS = 64,        // frames, all streams together, that a pass works on
    MOST_LAYERS = 16,
    MOST_LATE = 8,    // frames of look-ahead of a layer
    MOST_TOGETHER = 6,  // rows that an inner loop multiplies at once
    ONE = 32,         // channels of the first convolution
    TWO = 48,         // and of the second
    RECTIFIED = 127,  // offset in 8 bits of what is never negative
    OVERLAP = 4,      // mel frames that an acoustic frame shares with the next ones
    KEPT = 16,        // work areas that are kept for the next call
};

#define INLINE inline __attribute__((always_inline))

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t w16 __attribute__((vector_size(64)));
typedef int8_t c16 __attribute__((vector_size(16)));
typedef float v16_any __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t w16_any __attribute__((vector_size(64), aligned(4), may_alias));

/* Weights in 8 bits, a scale for each output. Outputs are in blocks of 64: [block][inputs / 4][64][4], so that one load
   of 64 bytes holds 4 inputs of 16 outputs. 128 is added to each, as the instructions multiply unsigned by signed bytes. */
typedef struct {
    uint32_t inputs, outputs, blocks;
    uint8_t *weights;
    int32_t *shift;        // (blocks * 64) for inputs that an offset was subtracted from
    float *scales, *bias;  // (blocks * 64); the bias of outputs that there are not is far below all others
} Matrix;

typedef struct {
    uint32_t late;  // frames of look-ahead
    const float *norm, *norm_bias, *late_norm, *late_norm_bias;
    Matrix input, recurrent, mix;
} Layer;

typedef struct Work Work;

typedef struct {
    uint32_t mels, stack, size, layers, head_layer, hop, window, fft, lates;
    float floor;
    uint32_t freqs_one, freqs_two;  // of the convolutions' outputs
    const float *taper;             // (fft) the window, zeros after it
    const float *cosines, *sines;   // (fft / 2 + 1) of 2 pi k / fft
    const float *filters;           // (mels, fft / 2 + 1)
    const uint32_t *spans;          // (mels, 2) where a filter is not zero
    const uint32_t *reversed;       // (fft / 2) bit-reversed numbers
    const float *mean, *inverse_std;
    const float *one, *one_bias;    // (3, 3, 32): time, frequency, output
    const float *two, *two_bias;    // (stack + 2, 3, 32, 48)
    const float *front_norm, *front_norm_bias, *head_norm, *head_norm_bias;
    Matrix front, head;
    Layer layer[MOST_LAYERS];
    void *memory;   // all of the above
    uint32_t kernel;
    _Atomic(Work *) kept[KEPT];
} Network;

/* One pass works here: R rows are frames of B streams, frame after frame. */
struct Work {
    float *waves;    // (fft / 2 + 1, 2, 16) spectra of 16 mel frames
    float *powers;   // (fft / 2 + 1, 16)
    float *mels;     // (F, mels + 2) with a zero at both ends
    float *first;    // (F - 2, freqs_one + 2, 32), likewise
    float *front;    // (R, freqs_two * 48)
    float *late;     // (R + lates * B, size) the rows of a layer, before them those that waited
    float *normal;   // as late
    float *gates;    // (R, 4 * size)
    float *hidden, *cell;  // (B, size)
    float *scores;   // (R, blocks of the head * 64)
    float *scales;   // (R) of quantised rows
    int32_t *sums;   // (R) 128 times the sum of each
    int8_t *bytes;   // (R, K)
};

typedef void Run(const Network *, Work *, uint32_t streams, uint32_t frames, const float *const *samples,
                 const float *const *before, float *const *after, float *const *rows);

#endif
