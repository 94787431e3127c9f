/* Log-mel features of 16 frames at a time, a frame in each lane. Read once for each kernel, as vectors.h. */

/* The windowed samples of 16 frames as complex numbers, even samples real and odd ones imaginary, bit-reversed. */
static TARGET void NAME(gather)(const Network *n, const float *samples, uint32_t frames, v16 *waves) {
    size_t at[LANES];
    for (uint32_t lane = 0; lane < LANES; lane++) at[lane] = (size_t)(lane < frames ? lane : frames - 1) * n->hop;
    for (uint32_t k = 0; k < n->fft / 2; k++)
        for (uint32_t odd = 0; odd < 2; odd++) {
            uint32_t time = 2 * k + odd;
            v16 x = {0};
            if (time < n->window) {
                for (uint32_t lane = 0; lane < LANES; lane++) x[lane] = samples[at[lane] + time];
                x *= n->taper[time];
            }
            waves[2 * n->reversed[k] + odd] = x;
        }
}

/* Cooley & Tukey 1965, in place, of fft / 2 complex numbers. */
static TARGET void NAME(transform)(const Network *n, v16 *x) {
    uint32_t size = n->fft / 2;
    for (uint32_t half = 1; half < size; half *= 2)
        for (uint32_t k = 0; k < half; k++) {
            uint32_t turn = k * (size / half);  // of fft, as the tables are
            v16 c = NAME(all)(n->cosines[turn]), s = NAME(all)(n->sines[turn]);
            for (uint32_t a = k; a < size; a += 2 * half) {
                v16 *low = x + 2 * a, *high = x + 2 * (a + half);
                v16 real = FUSED(high[0], c, high[1] * s), imaginary = FUSED(high[1], c, -(high[0] * s));
                high[0] = low[0] - real, high[1] = low[1] - imaginary;
                low[0] += real, low[1] += imaginary;
            }
        }
}

/* Powers of the real signal's fft / 2 + 1 frequencies. */
static TARGET void NAME(spectrum)(const Network *n, const v16 *x, v16 *powers) {
    uint32_t size = n->fft / 2;
    for (uint32_t k = 0; k <= size; k++) {
        const v16 *one = x + 2 * (k % size), *other = x + 2 * ((size - k) % size);
        v16 even_real = 0.5f * (one[0] + other[0]), even_imaginary = 0.5f * (one[1] - other[1]);
        v16 odd_real = 0.5f * (one[1] + other[1]), odd_imaginary = 0.5f * (other[0] - one[0]);
        v16 c = NAME(all)(n->cosines[k]), s = NAME(all)(n->sines[k]);
        v16 real = even_real + FUSED(odd_real, c, odd_imaginary * s);
        v16 imaginary = even_imaginary + FUSED(odd_imaginary, c, -(odd_real * s));
        powers[k] = FUSED(real, real, imaginary * imaginary);
    }
}

/* Normalised log-mel frames (frames, mels + 2), with a zero on both sides of each. */
static TARGET void NAME(log_mels)(const Network *n, Work *work, const float *samples, uint32_t frames) {
    uint32_t bins = n->fft / 2 + 1, width = n->mels + 2;
    for (uint32_t first = 0; first < frames; first += LANES) {
        uint32_t many = frames - first < LANES ? frames - first : LANES;
        v16 *waves = (v16 *)work->waves, *powers = (v16 *)work->powers;
        NAME(gather)(n, samples + (size_t)first * n->hop, many, waves);
        NAME(transform)(n, waves);
        NAME(spectrum)(n, waves, powers);
        for (uint32_t mel = 0; mel < n->mels; mel++) {
            const float *filter = n->filters + (size_t)mel * bins;
            v16 energy = {0};
            for (uint32_t k = n->spans[2 * mel]; k < n->spans[2 * mel + 1]; k++)
                energy = FUSED(powers[k], NAME(all)(filter[k]), energy);
            v16 level = (NAME(log)(energy + n->floor) - n->mean[mel]) * n->inverse_std[mel];
            for (uint32_t lane = 0; lane < many; lane++) work->mels[(size_t)(first + lane) * width + 1 + mel] = level[lane];
        }
        for (uint32_t lane = 0; lane < many; lane++) {
            float *row = work->mels + (size_t)(first + lane) * width;
            row[0] = row[width - 1] = 0.0f;
        }
    }
}
