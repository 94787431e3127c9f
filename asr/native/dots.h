/* The inner loops: 64 outputs of rows of 8 bits with weights of 8 bits, in portable C and with AVX-512 VNNI.

   weights (inputs / 4, 64, 4) unsigned, bytes (many, inputs) signed, found (many, 64); inputs is a multiple of 16. */

static INLINE int32_t four(const int8_t *bytes) {
    int32_t found;
    memcpy(&found, bytes, sizeof found);
    return found;
}

static inline void dots_portable(const uint8_t *weights, uint32_t inputs, const int8_t *bytes, uint32_t many,
                                 int32_t *found) {
    memset(found, 0, (size_t)many * BLOCK * sizeof(int32_t));
    for (uint32_t k = 0; k < inputs; k += 4, weights += 4 * BLOCK)
        for (uint32_t r = 0; r < many; r++) {
            const int8_t *x = bytes + (size_t)r * inputs + k;
            for (uint32_t o = 0; o < BLOCK; o++)
                found[r * BLOCK + o] += weights[4 * o] * x[0] + weights[4 * o + 1] * x[1] + weights[4 * o + 2] * x[2] +
                                        weights[4 * o + 3] * x[3];
        }
}

#if defined(__x86_64__)
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 8")
#endif
#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))

/* sum + unsigned weights * signed x; gcc 12 copies the sums to and fro around its own function for this. */
static INLINE WIDE __m512i plus_dots(__m512i sum, __m512i weights, __m512i x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
    return sum;
}

static INLINE WIDE void wide(const uint8_t *weights, uint32_t inputs, const int8_t *bytes, const int many,
                             int32_t *found) {
    __m512i sum[MOST_TOGETHER][4];
    UNROLLED
    for (int r = 0; r < many; r++)
        UNROLLED
        for (int v = 0; v < 4; v++) sum[r][v] = _mm512_setzero_si512();
    for (uint32_t k = 0; k < inputs; k += 4, weights += 4 * BLOCK) {
        __m512i weight[4];
        UNROLLED
        for (int v = 0; v < 4; v++) weight[v] = _mm512_loadu_si512(weights + v * 64);
        UNROLLED
        for (int r = 0; r < many; r++) {
            __m512i x = _mm512_set1_epi32(four(bytes + (size_t)r * inputs + k));
            UNROLLED
            for (int v = 0; v < 4; v++) sum[r][v] = plus_dots(sum[r][v], weight[v], x);
        }
    }
    UNROLLED
    for (int r = 0; r < many; r++)
        UNROLLED
        for (int v = 0; v < 4; v++) _mm512_storeu_si512(found + r * BLOCK + v * 16, sum[r][v]);
}

/* One row: with four sums alone each would wait for itself. */
static INLINE WIDE void wide_one(const uint8_t *weights, uint32_t inputs, const int8_t *bytes, int32_t *found) {
    __m512i even[4], odd[4];
    UNROLLED
    for (int v = 0; v < 4; v++) even[v] = odd[v] = _mm512_setzero_si512();
    for (uint32_t k = 0; k < inputs; k += 8, weights += 8 * BLOCK) {
        __m512i x = _mm512_set1_epi32(four(bytes + k)), y = _mm512_set1_epi32(four(bytes + k + 4));
        UNROLLED
        for (int v = 0; v < 4; v++) {
            even[v] = plus_dots(even[v], _mm512_loadu_si512(weights + v * 64), x);
            odd[v] = plus_dots(odd[v], _mm512_loadu_si512(weights + 4 * BLOCK + v * 64), y);
        }
    }
    UNROLLED
    for (int v = 0; v < 4; v++) _mm512_storeu_si512(found + v * 16, _mm512_add_epi32(even[v], odd[v]));
}

static inline WIDE void dots_avx512(const uint8_t *weights, uint32_t inputs, const int8_t *bytes, uint32_t many,
                                    int32_t *found) {
    switch (many) {
        case 1: wide_one(weights, inputs, bytes, found); break;
        case 2: wide(weights, inputs, bytes, 2, found); break;
        case 3: wide(weights, inputs, bytes, 3, found); break;
        case 4: wide(weights, inputs, bytes, 4, found); break;
        case 5: wide(weights, inputs, bytes, 5, found); break;
        default: wide(weights, inputs, bytes, 6, found);
    }
}
#endif
