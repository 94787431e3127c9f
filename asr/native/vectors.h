/* Functions of 16 floats. Read once for each kernel: NAME(f) is f of this kernel, TARGET its instructions, and FUSED,
   LARGER and SMALLER what they have. Sums are in an order of their own, so that a row's result never depends on the
   rows beside it, nor on the kernel where all fuse products with sums. */

static INLINE TARGET float NAME(lanes_sum)(v16 x) {
    float all[LANES];
    memcpy(all, &x, sizeof x);
    for (int half = LANES / 2; half; half /= 2)
        for (int k = 0; k < half; k++) all[k] += all[k + half];
    return all[0];
}

static INLINE TARGET float NAME(lanes_largest)(v16 x) {
    float all[LANES];
    memcpy(all, &x, sizeof x);
    for (int k = 1; k < LANES; k++) all[0] = all[k] > all[0] ? all[k] : all[0];
    return all[0];
}

static INLINE TARGET v16 NAME(all)(float x) {
    return x - (v16){0};
}

/* The coefficients of exp and log are those of Cephes (Moshier 1992), good to about 1e-7. */
static INLINE TARGET v16 NAME(exp)(v16 x) {
    x = LARGER(SMALLER(x, NAME(all)(88.0f)), NAME(all)(-87.0f));
    const v16 magic = NAME(all)(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
    v16 n = FUSED(x, NAME(all)(1.44269504f), magic) - magic;
    v16 r = FUSED(n, NAME(all)(-0.693359375f), x);
    r = FUSED(n, NAME(all)(2.12194440e-4f), r);
    v16 y = NAME(all)(1.9875691500e-4f);
    y = FUSED(y, r, NAME(all)(1.3981999507e-3f));
    y = FUSED(y, r, NAME(all)(8.3334519073e-3f));
    y = FUSED(y, r, NAME(all)(4.1665795894e-2f));
    y = FUSED(y, r, NAME(all)(1.6666665459e-1f));
    y = FUSED(y, r, NAME(all)(5.0000001201e-1f));
    y = FUSED(y, r * r, r) + 1.0f;
    w16 power = (__builtin_convertvector(n, w16) + 127) << 23;
    return y * (v16)power;
}

/* Of x > 0, not subnormal. */
static INLINE TARGET v16 NAME(log)(v16 x) {
    w16 bits = (w16)x;
    w16 exponent = (bits >> 23) - 126;
    v16 m = (v16)((bits & 0x007fffff) | 0x3f000000);  // 0.5 to 1
    w16 small = m < 0.707106781186547524f;            // -1 where true
    exponent += small;
    m = m + (v16)(small & (w16)m) - 1.0f;
    v16 z = m * m, y = NAME(all)(7.0376836292e-2f), e = __builtin_convertvector(exponent, v16);
    y = FUSED(y, m, NAME(all)(-1.1514610310e-1f));
    y = FUSED(y, m, NAME(all)(1.1676998740e-1f));
    y = FUSED(y, m, NAME(all)(-1.2420140846e-1f));
    y = FUSED(y, m, NAME(all)(1.4249322787e-1f));
    y = FUSED(y, m, NAME(all)(-1.6668057665e-1f));
    y = FUSED(y, m, NAME(all)(2.0000714765e-1f));
    y = FUSED(y, m, NAME(all)(-2.4999993993e-1f));
    y = FUSED(y, m, NAME(all)(3.3333331174e-1f));
    y = y * m * z;
    y = FUSED(e, NAME(all)(-2.12194440e-4f), y);
    y = FUSED(z, NAME(all)(-0.5f), y);
    return FUSED(e, NAME(all)(0.693359375f), m + y);
}

static INLINE TARGET v16 NAME(bounded)(v16 x) {  // the product of two exponentials of these stays finite
    return LARGER(SMALLER(x, NAME(all)(40.0f)), NAME(all)(-40.0f));
}

static INLINE TARGET v16 NAME(sigmoid)(v16 x) {
    return 1.0f / (1.0f + NAME(exp)(NAME(bounded)(-x)));
}

/* sigmoid(a) * tanh(b), with one division. */
static INLINE TARGET v16 NAME(gated_tanh)(v16 a, v16 b) {
    v16 ea = NAME(exp)(NAME(bounded)(-a)), eb = NAME(exp)(NAME(bounded)(2.0f * b));
    return (eb - 1.0f) / ((1.0f + ea) * (eb + 1.0f));
}

static TARGET void NAME(layer_norm)(const float *x, const float *weight, const float *bias, uint32_t size, float *y) {
    v16 sum = {0};
    for (uint32_t k = 0; k < size; k += LANES) sum += *(const v16_any *)(x + k);
    float mean = NAME(lanes_sum)(sum) / (float)size;
    sum = (v16){0};
    for (uint32_t k = 0; k < size; k += LANES) {
        v16 apart = *(const v16_any *)(x + k) - mean;
        sum = FUSED(apart, apart, sum);
    }
    float scale = 1.0f / __builtin_sqrtf(NAME(lanes_sum)(sum) / (float)size + 1e-5f);
    for (uint32_t k = 0; k < size; k += LANES) {
        v16 normal = (*(const v16_any *)(x + k) - mean) * scale;
        *(v16_any *)(y + k) = FUSED(normal, *(const v16_any *)(weight + k), *(const v16_any *)(bias + k));
    }
}

/* Scores (n), padded to whole vectors by very small ones, to natural-log probabilities. */
static TARGET void NAME(log_softmax)(const float *scores, uint32_t n, float *rows) {
    uint32_t padded = (n + LANES - 1) / LANES * LANES;
    v16 largest = *(const v16_any *)scores, sum = {0};
    for (uint32_t k = LANES; k < padded; k += LANES) largest = LARGER(largest, *(const v16_any *)(scores + k));
    float most = NAME(lanes_largest)(largest);
    for (uint32_t k = 0; k < padded; k += LANES) sum += NAME(exp)(*(const v16_any *)(scores + k) - most);
    v16 total = NAME(log)(NAME(all)(NAME(lanes_sum)(sum)));
    float less = most + total[0];
    for (uint32_t k = 0; k < n; k++) rows[k] = scores[k] - less;
}
