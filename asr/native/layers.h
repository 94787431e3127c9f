/* The network's layers. Read once for each kernel, as vectors.h. Rows are frames of B streams, frame after frame. */

/* The first convolution, 3 mel frames by 3 mels, and its rectifier: (F - 2, freqs_one + 2, 32). */
static TARGET void NAME(first_convolution)(const Network *n, Work *work, uint32_t frames) {
    uint32_t width = n->mels + 2, across = n->freqs_one + 2;
    for (uint32_t row = 0; row + 2 < frames; row++) {
        float *y = work->first + (size_t)row * across * ONE;
        memset(y, 0, ONE * sizeof(float));
        memset(y + (size_t)(across - 1) * ONE, 0, ONE * sizeof(float));
        for (uint32_t f = 0; f < n->freqs_one; f++) {
            v16 low = *(const v16_any *)n->one_bias, high = *(const v16_any *)(n->one_bias + LANES);
            for (uint32_t k = 0; k < 9; k++) {
                v16 x = NAME(all)(work->mels[(size_t)(row + k / 3) * width + 2 * f + k % 3]);
                low = FUSED(x, *(const v16_any *)(n->one + k * ONE), low);
                high = FUSED(x, *(const v16_any *)(n->one + k * ONE + LANES), high);
            }
            *(v16_any *)(y + (f + 1) * ONE) = LARGER(low, (v16){0});
            *(v16_any *)(y + (f + 1) * ONE + LANES) = LARGER(high, (v16){0});
        }
    }
}

/* The second one at `many` frequencies of a frame, whose first row is x: (many, 48). */
static INLINE TARGET void NAME(frequencies)(const Network *n, const float *x, uint32_t f,
                                                                           const uint32_t many, float *y) {
    enum { VECTORS = TWO / LANES };
    size_t across = (size_t)(n->freqs_one + 2) * ONE;
    v16 sum[4][VECTORS];
    for (uint32_t k = 0; k < many; k++)
        for (int v = 0; v < VECTORS; v++) sum[k][v] = *(const v16_any *)(n->two_bias + v * LANES);
    const float *weights = n->two;
    for (uint32_t time = 0; time < n->stack + 2; time++) {
        const float *near = x + time * across + (size_t)2 * f * ONE;
        for (uint32_t c = 0; c < 3 * ONE; c++, weights += TWO)
            for (int v = 0; v < VECTORS; v++) {
                v16 weight = *(const v16_any *)(weights + v * LANES);
                for (uint32_t k = 0; k < many; k++)
                    sum[k][v] = FUSED(NAME(all)(near[c + k * 2 * ONE]), weight, sum[k][v]);
            }
    }
    for (uint32_t k = 0; k < many; k++)
        for (int v = 0; v < VECTORS; v++) *(v16_any *)(y + k * TWO + v * LANES) = LARGER(sum[k][v], (v16){0});
}

static TARGET void NAME(second_convolution)(const Network *n, const Work *work, uint32_t frame, float *y) {
    const float *x = work->first + (size_t)frame * n->stack * (n->freqs_one + 2) * ONE;
    uint32_t f = 0;
    for (; f + 4 <= n->freqs_two; f += 4) NAME(frequencies)(n, x, f, 4, y + f * TWO);
    for (; f < n->freqs_two; f++) NAME(frequencies)(n, x, f, 1, y + f * TWO);
}

/* Samples to the rows that the layers read. */
static TARGET void NAME(front)(const Network *n, Work *work, uint32_t streams, uint32_t frames,
                               const float *const *samples, float *x) {
    uint32_t mel_frames = frames * n->stack + OVERLAP, width = n->freqs_two * TWO, rows = frames * streams;
    for (uint32_t b = 0; b < streams; b++) {
        NAME(log_mels)(n, work, samples[b], mel_frames);
        NAME(first_convolution)(n, work, mel_frames);
        for (uint32_t t = 0; t < frames; t++)
            NAME(second_convolution)(n, work, t, work->front + (size_t)(t * streams + b) * width);
    }
    NAME(quantise_rows)(work->front, rows, width, RECTIFIED, work);
    NAME(product)(&n->front, work, rows, work->gates);
    for (uint32_t r = 0; r < rows; r++)
        NAME(layer_norm)(work->gates + (size_t)r * n->front.blocks * BLOCK, n->front_norm, n->front_norm_bias, n->size,
                         x + (size_t)r * n->size);
}

/* An LSTM (Hochreiter & Schmidhuber 1997) beside which the rows x pass unchanged. The products with the inputs of all
   frames are one; a block of 64 has the input, forget, cell and output gates of 16 units. */
static TARGET void NAME(lstm)(const Network *n, const Layer *layer, Work *work, uint32_t streams, uint32_t frames,
                              float *x) {
    uint32_t size = n->size, rows = frames * streams;
    for (uint32_t r = 0; r < rows; r++)
        NAME(layer_norm)(x + (size_t)r * size, layer->norm, layer->norm_bias, size, work->normal + (size_t)r * size);
    NAME(quantise_rows)(work->normal, rows, size, 0, work);
    NAME(product)(&layer->input, work, rows, work->gates);
    for (uint32_t t = 0; t < frames; t++) {
        NAME(quantise_rows)(work->hidden, streams, size, 0, work);
        for (uint32_t block = 0; block < layer->recurrent.blocks; block++) {
            float found[ROWS * BLOCK] __attribute__((aligned(64)));
            NAME(block)(&layer->recurrent, block, work, streams, found, BLOCK);
            for (uint32_t b = 0; b < streams; b++) {
                const float *gates = work->gates + ((size_t)t * streams + b) * 4 * size + block * BLOCK;
                const v16 *more = (const v16 *)(found + b * BLOCK);
                v16 gate[4];
                for (int k = 0; k < 4; k++) gate[k] = *(const v16_any *)(gates + k * LANES) + more[k];
                size_t unit = (size_t)b * size + block * LANES;
                v16_any *cell = (v16_any *)(work->cell + unit);
                v16 next = FUSED(NAME(sigmoid)(gate[1]), *cell, NAME(gated_tanh)(gate[0], gate[2]));
                *cell = next;
                *(v16_any *)(work->hidden + unit) = NAME(gated_tanh)(gate[3], next);
            }
        }
        float *y = x + (size_t)t * streams * size;
        for (uint32_t k = 0; k < streams * size; k += LANES)
            *(v16_any *)(y + k) += *(const v16_any *)(work->hidden + k);
    }
}

/* Mixes each frame with the next ones: late (late + frames, B, size) -> its first rows, changed. */
static TARGET void NAME(look_ahead)(const Network *n, const Layer *layer, Work *work, uint32_t streams, uint32_t frames,
                                    float *late) {
    uint32_t size = n->size, rows = frames * streams, parts = layer->late + 1;
    for (uint32_t r = 0; r < rows + layer->late * streams; r++)
        NAME(layer_norm)(late + (size_t)r * size, layer->late_norm, layer->late_norm_bias, size,
                         work->normal + (size_t)r * size);
    for (uint32_t r = 0; r < rows; r++) {
        const float *part[MOST_LATE + 1];
        for (uint32_t p = 0; p < parts; p++) part[p] = work->normal + (size_t)(r + p * streams) * size;
        NAME(quantise)(part, parts, size, 0, work->bytes + (size_t)r * parts * size, work->scales + r, work->sums + r);
    }
    NAME(product)(&layer->mix, work, rows, work->gates);
    size_t width = (size_t)layer->mix.blocks * BLOCK;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < size; k += LANES) {
            v16 mixed = *(const v16_any *)(work->gates + r * width + k);
            *(v16_any *)(late + (size_t)r * size + k) += mixed * NAME(sigmoid)(mixed);
        }
}

static TARGET void NAME(head)(const Network *n, Work *work, uint32_t streams, uint32_t frames, const float *x,
                              float *const *found) {
    uint32_t rows = frames * streams;
    for (uint32_t r = 0; r < rows; r++)
        NAME(layer_norm)(x + (size_t)r * n->size, n->head_norm, n->head_norm_bias, n->size,
                         work->normal + (size_t)r * n->size);
    NAME(quantise_rows)(work->normal, rows, n->size, 0, work);
    NAME(product)(&n->head, work, rows, work->scores);
    for (uint32_t r = 0; r < rows; r++)
        NAME(log_softmax)(work->scores + (size_t)r * n->head.blocks * BLOCK, n->head.outputs,
                          found[r % streams] + (size_t)(r / streams) * n->head.outputs);
}

/* Rows between the streams' own memories and the one where those of a frame lie side by side. */
static TARGET void NAME(side_by_side)(float *together, uint32_t streams, uint32_t rows, uint32_t size, size_t place,
                                      const float *const *apart) {
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t b = 0; b < streams; b++)
            memcpy(together + ((size_t)row * streams + b) * size, apart[b] + place + (size_t)row * size,
                   size * sizeof(float));
}

static TARGET void NAME(back_apart)(const float *together, uint32_t streams, uint32_t rows, uint32_t size, size_t place,
                                    float *const *apart) {
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t b = 0; b < streams; b++)
            memcpy(apart[b] + place + (size_t)row * size, together + ((size_t)row * streams + b) * size,
                   size * sizeof(float));
}

/* Frames of B streams, at most ROWS together. A stream's memory: hidden and cell (layers, size), then what waits for
   its look-ahead (lates, size). `before` and `after` may be the same. */
static TARGET void NAME(run)(const Network *n, Work *work, uint32_t streams, uint32_t frames,
                             const float *const *samples, const float *const *before, float *const *after,
                             float *const *rows) {
    uint32_t size = n->size;
    size_t waiting = (size_t)2 * n->layers * size;
    float *start = work->late + (size_t)n->lates * streams * size, *x = start;
    NAME(front)(n, work, streams, frames, samples, x);
    for (uint32_t l = 0; l < n->layers; l++) {
        const Layer *layer = n->layer + l;
        size_t hidden = (size_t)l * size, cell = ((size_t)n->layers + l) * size;
        NAME(side_by_side)(work->hidden, streams, 1, size, hidden, before);
        NAME(side_by_side)(work->cell, streams, 1, size, cell, before);
        NAME(lstm)(n, layer, work, streams, frames, x);
        NAME(back_apart)(work->hidden, streams, 1, size, hidden, after);
        NAME(back_apart)(work->cell, streams, 1, size, cell, after);
        if (layer->late) {
            size_t behind = (size_t)frames * streams * size;
            x -= (size_t)layer->late * streams * size;
            NAME(side_by_side)(x, streams, layer->late, size, waiting, before);
            NAME(look_ahead)(n, layer, work, streams, frames, x);
            NAME(back_apart)(x + behind, streams, layer->late, size, waiting, after);
            waiting += (size_t)layer->late * size;
        }
        if (l + 1 == n->head_layer) NAME(head)(n, work, streams, frames, x, rows);
    }
}
