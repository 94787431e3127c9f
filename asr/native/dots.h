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
#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))

static INLINE WIDE void wide(const uint8_t *weights, uint32_t inputs, const int8_t *bytes, const int many,
                             int32_t *found) {
    __m512i sum[MOST_TOGETHER][4], more[4];
    for (int r = 0; r < many; r++)
        for (int v = 0; v < 4; v++) sum[r][v] = _mm512_setzero_si512();
    for (int v = 0; v < 4; v++) more[v] = _mm512_setzero_si512();
    for (uint32_t k = 0; k < inputs; k += 8, weights += 8 * BLOCK)
        for (int half = 0; half < 2; half++) {
            __m512i weight[4];
            for (int v = 0; v < 4; v++) weight[v] = _mm512_loadu_si512(weights + (4 * half + v) * 64);
            for (int r = 0; r < many; r++) {
                __m512i x = _mm512_set1_epi32(four(bytes + (size_t)r * inputs + k + 4 * half));
                for (int v = 0; v < 4; v++) {  // one row alone would wait for its own sums
                    __m512i *place = many == 1 && half ? more + v : sum[r] + v;
                    *place = _mm512_dpbusd_epi32(*place, weight[v], x);
                }
            }
        }
    for (int r = 0; r < many; r++)
        for (int v = 0; v < 4; v++)
            _mm512_storeu_si512(found + r * BLOCK + v * 16, many == 1 ? _mm512_add_epi32(sum[r][v], more[v]) : sum[r][v]);
}

static inline WIDE void dots_avx512(const uint8_t *weights, uint32_t inputs, const int8_t *bytes, uint32_t many,
                                    int32_t *found) {
    switch (many) {
        case 1: wide(weights, inputs, bytes, 1, found); break;
        case 2: wide(weights, inputs, bytes, 2, found); break;
        case 3: wide(weights, inputs, bytes, 3, found); break;
        case 4: wide(weights, inputs, bytes, 4, found); break;
        case 5: wide(weights, inputs, bytes, 5, found); break;
        default: wide(weights, inputs, bytes, 6, found);
    }
}
#endif
