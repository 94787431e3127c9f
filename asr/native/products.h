/* Products with weights of 8 bits. Read once for each kernel, as vectors.h; PRODUCT is the kernel's own inner loop.

   Each row of activations is quantised by its own largest value, so its result depends on nothing but itself: neither
   on how the audio was cut into chunks nor on the streams beside it. Whole numbers add up to the same in any order. */

/* A row in 8 bits: `parts` vectors of `size` floats (a look-ahead reads several frames). An `offset` of 127 is for what
   is never negative: it is subtracted, and uses the other half of the numbers, too. */
static TARGET void NAME(quantise)(const float *const *part, uint32_t parts, uint32_t size, int32_t offset, int8_t *bytes,
                                  float *scale, int32_t *sum) {
    const w16 sign = (w16){0} + 0x7fffffff;
    v16 largest = {0};
    for (uint32_t p = 0; p < parts; p++)
        for (uint32_t k = 0; k < size; k += LANES)
            largest = LARGER(largest, (v16)(*(const w16_any *)(part[p] + k) & sign));
    float most = NAME(lanes_largest)(largest), levels = (float)(127 + offset);
    float inverse = most > 1e-30f ? levels / most : 0.0f;
    const v16 magic = NAME(all)(12582912.0f);
    w16 total = {0};
    for (uint32_t p = 0; p < parts; p++)
        for (uint32_t k = 0; k < size; k += LANES) {
            w16 whole = (w16)(*(const v16_any *)(part[p] + k) * inverse + magic) - (0x4b400000 + offset);
            total += whole;
            c16 narrow = __builtin_convertvector(whole, c16);
            memcpy(bytes + p * size + k, &narrow, LANES);
        }
    int32_t all = 0;
    for (int k = 0; k < LANES; k++) all += total[k];
    *scale = most / levels;
    *sum = 128 * all;
}

static TARGET void NAME(quantise_rows)(const float *x, uint32_t rows, uint32_t size, int32_t offset, Work *work) {
    for (uint32_t r = 0; r < rows; r++) {
        const float *part = x + (size_t)r * size;
        NAME(quantise)(&part, 1, size, offset, work->bytes + (size_t)r * size, work->scales + r, work->sums + r);
    }
}

/* A block of outputs of quantised rows: y (rows, 64), `step` floats from row to row. */
static TARGET void NAME(block)(const Matrix *m, uint32_t block, const Work *work, uint32_t rows, float *y, size_t step) {
    const uint8_t *weights = m->weights + (size_t)block * m->inputs * BLOCK;
    const float *scales = m->scales + block * BLOCK, *bias = m->bias + block * BLOCK;
    const int32_t *shift = m->shift + block * BLOCK;
    for (uint32_t r = 0; r < rows;) {
        int32_t found[MOST_TOGETHER * BLOCK] __attribute__((aligned(64)));
        uint32_t many = rows - r < MOST_TOGETHER ? rows - r : MOST_TOGETHER;
        NAME(dots)(weights, m->inputs, work->bytes + (size_t)r * m->inputs, many, found);
        for (uint32_t k = 0; k < many; k++, r++)
            for (uint32_t v = 0; v < BLOCK; v += LANES) {
                w16 sum = *(w16 *)(found + k * BLOCK + v) + *(const w16_any *)(shift + v) - work->sums[r];
                v16 scaled = __builtin_convertvector(sum, v16) * work->scales[r];
                *(v16_any *)(y + r * step + v) =
                    FUSED(scaled, *(const v16_any *)(scales + v), *(const v16_any *)(bias + v));
            }
    }
}

/* All outputs: y (rows, blocks * 64). */
static TARGET void NAME(product)(const Matrix *m, const Work *work, uint32_t rows, float *y) {
    for (uint32_t block = 0; block < m->blocks; block++)
        NAME(block)(m, block, work, rows, y + block * BLOCK, (size_t)m->blocks * BLOCK);
}
