/* Products of matrices in 8 bits with a few vectors, which are quantised as they come, each by its own largest number.

   The sums are exact integers, so every kernel gives the same result on every machine. Rows lie in blocks of eight, and a
   block's columns in fours, so that one load has what eight sums need next (as gemmlowp and FBGEMM pack their weights). */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>

#include "processor.h"
#define X86 1
#endif

#define LANES 8u

typedef struct {
    const int8_t *codes;   /* (B, C / 4, 8, 4); zeros where there are no such rows and columns */
    const float *scales;   /* (8 B,) of each row; 0 where there is none */
    const int32_t *sums;   /* (8 B,) 128 times the sum of each row */
    uint32_t rows, columns; /* C is a multiple of four */
} Matrix;

/* Vectors (N, C) in 8 bits, in the form that the kernel wants: from 0 to 255 for 0 = 128, or as 16-bit integers. */
typedef struct {
    void *codes;
    float *scales; /* (N,) */
    uint32_t count, columns;
} Vectors;

/* Products (count, stride) of vectors with the rows of some blocks. */
typedef void Product(const Matrix *m, uint32_t block, uint32_t blocks, const Vectors *x, float *y, uint32_t stride);

typedef struct {
    const char *name;
    Product *product;
    uint32_t bytes; /* of a vector's number */
} Kernel;

static inline uint32_t blocks_of(const Matrix *m) { return (m->rows + LANES - 1) / LANES; }

static inline const int8_t *codes_of(const Matrix *m, uint32_t block) {
    return m->codes + (size_t)block * LANES * m->columns;
}

/* The code of a row and a column. */
static inline int8_t code_at(const Matrix *m, uint32_t row, uint32_t column) {
    return codes_of(m, row / LANES)[column / 4 * 32 + row % LANES * 4 + column % 4];
}

static void product_plain(const Matrix *m, uint32_t block, uint32_t blocks, const Vectors *x, float *y,
                          uint32_t stride) {
    for (uint32_t b = block; b < block + blocks; b++, y += LANES) {
        for (uint32_t n = 0; n < x->count; n++) {
            const int8_t *w = codes_of(m, b);
            const int16_t *v = (const int16_t *)x->codes + (size_t)n * x->columns;
            int32_t sum[LANES][4] = {{0}};
            for (uint32_t k = 0; k < x->columns; k += 4, w += 32)
                for (uint32_t r = 0; r < LANES; r++)
                    for (uint32_t j = 0; j < 4; j++) sum[r][j] += w[4 * r + j] * v[k + j];
            for (uint32_t r = 0; r < LANES; r++)
                y[n * (size_t)stride + r] = (float)(sum[r][0] + sum[r][1] + sum[r][2] + sum[r][3]) *
                                            (m->scales[LANES * b + r] * x->scales[n]);
        }
    }
}

#ifdef X86
/* For R blocks and N vectors at once, with all sums in registers. Both are constants where it is inlined. */
#define TILE __attribute__((always_inline)) static inline
#define AVX2 __attribute__((target("avx2")))
#define VNNI __attribute__((target("avx2,avx512f,avx512vl,avx512vnni")))

AVX2 TILE void tile_avx2(const Matrix *m, uint32_t block, const Vectors *x, uint32_t first, float *y, uint32_t stride,
                         const uint32_t N) {
    const int8_t *w = codes_of(m, block);
    const int16_t *v = (const int16_t *)x->codes + (size_t)first * x->columns;
    __m256i low[4], high[4];
    for (uint32_t n = 0; n < N; n++) low[n] = high[n] = _mm256_setzero_si256();
    for (uint32_t k = 0; k < x->columns; k += 4, w += 32) {
        __m256i one = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
        __m256i two = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16)));
        for (uint32_t n = 0; n < N; n++) {
            int64_t four;
            memcpy(&four, v + (size_t)n * x->columns + k, 8);
            __m256i given = _mm256_set1_epi64x(four);
            low[n] = _mm256_add_epi32(low[n], _mm256_madd_epi16(one, given));
            high[n] = _mm256_add_epi32(high[n], _mm256_madd_epi16(two, given));
        }
    }
    __m256 scales = _mm256_loadu_ps(m->scales + LANES * block);
    for (uint32_t n = 0; n < N; n++) { /* the sums of even and odd columns, of rows 0 1 4 5 2 3 6 7 */
        __m256i sums = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low[n], high[n]), 0xD8);
        __m256 scale = _mm256_mul_ps(scales, _mm256_set1_ps(x->scales[first + n]));
        _mm256_storeu_ps(y + (size_t)(first + n) * stride, _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale));
    }
}

AVX2 static void product_avx2(const Matrix *m, uint32_t block, uint32_t blocks, const Vectors *x, float *y,
                              uint32_t stride) {
    for (uint32_t b = block; b < block + blocks; b++, y += LANES) {
        uint32_t n = 0;
        for (; n + 4 <= x->count; n += 4) tile_avx2(m, b, x, n, y, stride, 4);
        for (; n < x->count; n++) tile_avx2(m, b, x, n, y, stride, 1);
    }
}

VNNI TILE void tile_vnni(const Matrix *m, uint32_t block, const Vectors *x, uint32_t first, float *y, uint32_t stride,
                         const uint32_t R, const uint32_t N) {
    const int8_t *w = codes_of(m, block);
    const uint8_t *v = (const uint8_t *)x->codes + (size_t)first * x->columns;
    const size_t line = (size_t)LANES * x->columns;
    __m256i sums[4][8];
    for (uint32_t r = 0; r < R; r++)
        for (uint32_t n = 0; n < N; n++)
            sums[r][n] = _mm256_sub_epi32(_mm256_setzero_si256(),
                                          _mm256_loadu_si256((const __m256i *)(m->sums + LANES * (block + r))));
    for (uint32_t k = 0; k < x->columns; k += 4, w += 32) {
        __m256i given[8];
        for (uint32_t n = 0; n < N; n++) {
            int32_t four;
            memcpy(&four, v + (size_t)n * x->columns + k, 4);
            given[n] = _mm256_set1_epi32(four);
        }
        for (uint32_t r = 0; r < R; r++) {
            __m256i row = _mm256_loadu_si256((const __m256i *)(w + r * line));
            for (uint32_t n = 0; n < N; n++) sums[r][n] = _mm256_dpbusd_epi32(sums[r][n], given[n], row);
        }
    }
    for (uint32_t r = 0; r < R; r++) {
        __m256 scales = _mm256_loadu_ps(m->scales + LANES * (block + r));
        for (uint32_t n = 0; n < N; n++) {
            __m256 scale = _mm256_mul_ps(scales, _mm256_set1_ps(x->scales[first + n]));
            _mm256_storeu_ps(y + (size_t)(first + n) * stride + LANES * r,
                             _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][n]), scale));
        }
    }
}

VNNI static void product_vnni(const Matrix *m, uint32_t block, uint32_t blocks, const Vectors *x, float *y,
                              uint32_t stride) {
    uint32_t b = block, end = block + blocks;
    for (; b + 4 <= end; b += 4, y += 4 * LANES) {
        uint32_t n = 0;
        for (; n + 4 <= x->count; n += 4) tile_vnni(m, b, x, n, y, stride, 4, 4);
        if (n + 2 <= x->count) tile_vnni(m, b, x, n, y, stride, 4, 2), n += 2;
        if (n < x->count) tile_vnni(m, b, x, n, y, stride, 4, 1);
    }
    for (; b < end; b++, y += LANES) {
        uint32_t n = 0;
        for (; n + 4 <= x->count; n += 4) tile_vnni(m, b, x, n, y, stride, 1, 4);
        for (; n < x->count; n++) tile_vnni(m, b, x, n, y, stride, 1, 1);
    }
}
#endif

static const Kernel KERNELS[] = {
#ifdef X86
    {"vnni", product_vnni, 1},
    {"avx2", product_avx2, 2},
#endif
    {"plain", product_plain, 2},
};

static int runs_here(const Kernel *kernel) {
#ifdef X86
    if (kernel->product == product_vnni) return processor_has_avx512_vnni();
    if (kernel->product == product_avx2) return processor_has_avx2();
#endif
    return kernel->product == product_plain;
}

static const Kernel *kernel; /* in use */

/* Use the fastest kernel that runs here, but none of the first `passed_over`; returns its name. For tests: vectors that
   were quantised for another one must not be used any more. */
EXPORT const char *rill_use_kernel(uint32_t passed_over) {
    const uint32_t last = sizeof KERNELS / sizeof *KERNELS - 1;
    uint32_t k = passed_over < last ? passed_over : last;
    while (!runs_here(&KERNELS[k])) k++;
    kernel = &KERNELS[k];
    return kernel->name;
}

__attribute__((constructor)) static void choose_kernel(void) { rill_use_kernel(0); }

/* A function whose loops become wide vector instructions where the machine has them: `name_of` is inlined in each. */
#ifdef X86
#define WIDE(name, parameters, ...)                                \
    AVX2 static void name##_wide parameters { name##_of(__VA_ARGS__); } \
    static void name##_narrow parameters { name##_of(__VA_ARGS__); }    \
    static inline void name parameters {                           \
        if (kernel->product == product_plain) name##_narrow(__VA_ARGS__); \
        else name##_wide(__VA_ARGS__);                             \
    }
#define INLINED __attribute__((always_inline)) static inline
#else
#define WIDE(name, parameters, ...) \
    static inline void name parameters { name##_of(__VA_ARGS__); }
#define INLINED static inline
#endif

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t EightWords __attribute__((vector_size(32)));

/* Of each pair the larger number. */
INLINED void raise_to(Eight *most, const Eight *others) {
    EightWords less = *most < *others;
    *most = (Eight)(((EightWords)*others & less) | ((EightWords)*most & ~less));
}

/* The largest of numbers and `least`. */
INLINED float largest(const float *numbers, uint32_t count, float least) {
    Eight most = {least, least, least, least, least, least, least, least};
    uint32_t k = 0;
    for (; k + LANES <= count; k += LANES) raise_to(&most, (const Eight *)(numbers + k));
    for (; k < count; k++) least = least < numbers[k] ? numbers[k] : least;
    for (uint32_t j = 0; j < LANES; j++) least = least < most[j] ? most[j] : least;
    return least;
}

/* Quantise one vector: numbers (count,), and zeros behind them. They are changed. */
INLINED void put_vector_of(const Vectors *x, uint32_t n, float *numbers, uint32_t count) {
    size_t place = (size_t)n * x->columns;
    uint8_t *bytes = (uint8_t *)x->codes + place;
    int16_t *words = (int16_t *)x->codes + place;
    int small = kernel->bytes == 1;
    float highest = largest(numbers, count, 0);
    for (uint32_t k = 0; k < count; k++) numbers[k] = -numbers[k];
    float most = largest(numbers, count, highest), factor = most > 0 ? -127 / most : 0;
    x->scales[n] = most / 127;
    for (uint32_t k = 0; k < count; k++) numbers[k] = numbers[k] * factor + 12582912.f - 12582912.f; /* rounds */
    if (small)
        for (uint32_t k = 0; k < count; k++) bytes[k] = (uint8_t)((int32_t)numbers[k] + 128);
    else
        for (uint32_t k = 0; k < count; k++) words[k] = (int16_t)numbers[k];
    for (uint32_t k = count; k < x->columns; k++)
        if (small) bytes[k] = 128;
        else words[k] = 0;
}
WIDE(put_vector, (const Vectors *x, uint32_t n, float *numbers, uint32_t count), x, n, numbers, count)

/* The product of a row of a matrix with a vector. */
static float row_product(const Matrix *m, uint32_t row, const Vectors *x, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t k = 0; k < x->columns; k++) {
        size_t place = (size_t)n * x->columns + k;
        int32_t code = kernel->bytes == 1 ? ((const uint8_t *)x->codes)[place] - 128
                                          : ((const int16_t *)x->codes)[place];
        sum += code_at(m, row, k) * code;
    }
    return (float)sum * (m->scales[row] * x->scales[n]);
}
