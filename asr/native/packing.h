/* Making a network of its weights, and the memory that it works in. */

/* Numbers of `rill_network_new`, in this order. */
typedef struct {
    uint32_t mels, stack, size, layers, head_layer, hop, window, fft, outputs, kernel;
    float floor;
    uint32_t late[MOST_LAYERS];
} Sizes;

/* Memory handed out piece by piece, each on a cache line: first counted, then taken. */
typedef struct {
    char *base;
    size_t used;
} Piece;

static void *piece(Piece *p, size_t bytes) {
    void *found = p->base ? p->base + p->used : NULL;
    p->used += (bytes + 63) / 64 * 64;
    return found;
}

/* Memory on a cache line; that of large weights on pages as large as the system has: random ones of 4 kB leave no room
   in the second cache for those that a recurrence reads again and again. */
static void *aligned(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes, 64);
#elif defined(__linux__)
    const size_t page = 2 << 20;
    size_t to = bytes < 4 * page ? 64 : page;
    void *found = aligned_alloc(to, (bytes + to - 1) / to * to);
    if (found && to == page) madvise(found, bytes, MADV_HUGEPAGE);
    return found;
#else
    return aligned_alloc(64, bytes);
#endif
}

static void release(void *memory) {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

static const float *copied(Piece *p, const void *from, size_t count) {
    float *to = piece(p, count * sizeof(float));
    if (to) memcpy(to, from, count * sizeof(float));
    return to;
}

/* A finite half-precision number. */
static inline float widened(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13 | (uint32_t)(half & 0x8000) << 16;
    float found;
    memcpy(&found, &bits, sizeof found);
    return found * 0x1p112f;  // the exponents' biases are 112 apart
}

/* weights (outputs, inputs) in half precision, and bias (outputs) or NULL: the next two parts. */
static Matrix packed(Piece *p, const void *const **part, uint32_t outputs, uint32_t inputs, int32_t offset) {
    const uint16_t *weights = *(*part)++;
    const float *bias = *(*part)++;
    Matrix m = {inputs, outputs, (outputs + BLOCK - 1) / BLOCK, NULL, NULL, NULL, NULL};
    size_t padded = (size_t)m.blocks * BLOCK;
    m.weights = piece(p, padded * inputs);
    m.shift = piece(p, padded * sizeof(int32_t));
    m.scales = piece(p, padded * sizeof(float));
    m.bias = piece(p, padded * sizeof(float));
    if (!m.weights) return m;
    memset(m.weights, 128, padded * inputs);
    for (uint32_t o = 0; o < padded; o++) {
        m.shift[o] = 0, m.scales[o] = 0.0f, m.bias[o] = -1e30f;
        if (o >= outputs) continue;
        const uint16_t *row = weights + (size_t)o * inputs;
        uint8_t *to = m.weights + (size_t)(o / BLOCK) * inputs * BLOCK + o % BLOCK * 4;
        int32_t largest = 0, sum = 0;
        for (uint32_t k = 0; k < inputs; k++) largest = (row[k] & 0x7fff) > largest ? row[k] & 0x7fff : largest;
        float most = widened((uint16_t)largest), inverse = largest ? 127.0f / most : 0.0f;
        for (uint32_t k = 0; k < inputs; k += LANES) {
            uint8_t line[LANES];
            for (uint32_t j = 0; j < LANES; j++) line[j] = (uint8_t)(int32_t)(widened(row[k + j]) * inverse + 128.5f);
            for (uint32_t j = 0; j < LANES; j++) sum += line[j];
            for (uint32_t j = 0; j < LANES; j += 4, to += 4 * BLOCK) memcpy(to, line + j, 4);
        }
        sum -= 128 * (int32_t)inputs;
        m.shift[o] = offset * sum;
        m.scales[o] = most / 127.0f;
        m.bias[o] = bias ? bias[o] : 0.0f;
    }
    return m;
}

static void tables(Network *n, Piece *p, const float *filters) {
    uint32_t bins = n->fft / 2 + 1, half = n->fft / 2;
    float *cosines = piece(p, bins * sizeof(float)), *sines = piece(p, bins * sizeof(float));
    uint32_t *spans = piece(p, 2 * n->mels * sizeof(uint32_t)), *reversed = piece(p, half * sizeof(uint32_t));
    n->cosines = cosines, n->sines = sines, n->spans = spans, n->reversed = reversed;
    if (!cosines) return;
    for (uint32_t k = 0; k < bins; k++) {
        double angle = 2.0 * 3.14159265358979323846 * k / n->fft;
        cosines[k] = (float)cos(angle), sines[k] = (float)sin(angle);
    }
    for (uint32_t k = 0, to = 0; k < half; k++) {
        reversed[k] = to;
        uint32_t bit = half >> 1;
        for (; bit && to & bit; bit >>= 1) to ^= bit;
        to |= bit;
    }
    for (uint32_t mel = 0; mel < n->mels; mel++) {
        const float *filter = filters + (size_t)mel * bins;
        uint32_t from = 0, to = bins;
        while (from < to && filter[from] == 0.0f) from++;
        while (to > from && filter[to - 1] == 0.0f) to--;
        spans[2 * mel] = from, spans[2 * mel + 1] = to;
    }
}

/* All parts of a network, in the order of asr/acoustic/native_engine.py. */
static void assemble(Network *n, Piece *p, const Sizes *sizes, const void *const *part) {
    uint32_t bins = n->fft / 2 + 1, size = n->size;
    n->taper = copied(p, *part++, n->fft);
    n->filters = copied(p, *part, (size_t)n->mels * bins);
    tables(n, p, *part++);
    n->mean = copied(p, *part++, n->mels);
    n->inverse_std = copied(p, *part++, n->mels);
    n->one = copied(p, *part++, 9 * ONE);
    n->one_bias = copied(p, *part++, ONE);
    n->two = copied(p, *part++, (size_t)(n->stack + 2) * 3 * ONE * TWO);
    n->two_bias = copied(p, *part++, TWO);
    n->front = packed(p, &part, size, n->freqs_two * TWO, RECTIFIED);
    n->front_norm = copied(p, *part++, size);
    n->front_norm_bias = copied(p, *part++, size);
    for (uint32_t l = 0; l < n->layers; l++) {
        Layer *layer = n->layer + l;
        layer->late = sizes->late[l];
        layer->norm = copied(p, *part++, size);
        layer->norm_bias = copied(p, *part++, size);
        layer->input = packed(p, &part, 4 * size, size, 0);
        layer->recurrent = packed(p, &part, 4 * size, size, 0);
        if (!layer->late) continue;
        layer->late_norm = copied(p, *part++, size);
        layer->late_norm_bias = copied(p, *part++, size);
        layer->mix = packed(p, &part, size, (layer->late + 1) * size, 0);
    }
    n->head_norm = copied(p, *part++, size);
    n->head_norm_bias = copied(p, *part++, size);
    n->head = packed(p, &part, sizes->outputs, size, 0);
}

static Work *new_work(const Network *n) {
    Piece p = {NULL, 0};
    Work *work = NULL;
    uint32_t most = n->freqs_two * TWO;
    for (uint32_t l = 0; l < n->layers; l++)
        if (n->layer[l].mix.inputs > most) most = n->layer[l].mix.inputs;
    size_t mel_frames = (size_t)ROWS * n->stack + OVERLAP, late = ROWS + (size_t)n->lates * ROWS;
    size_t wide = (size_t)(n->front.blocks * BLOCK > 4 * n->size ? n->front.blocks * BLOCK : 4 * n->size);
    for (int twice = 0; twice < 2; twice++) {
        Work here = {0};
        p.used = 0;
        piece(&p, sizeof here);
        here.waves = piece(&p, (size_t)n->fft * LANES * sizeof(float));
        here.powers = piece(&p, (size_t)(n->fft / 2 + 1) * LANES * sizeof(float));
        here.mels = piece(&p, mel_frames * (n->mels + 2) * sizeof(float));
        here.first = piece(&p, mel_frames * (n->freqs_one + 2) * ONE * sizeof(float));
        here.front = piece(&p, (size_t)ROWS * n->freqs_two * TWO * sizeof(float));
        here.late = piece(&p, late * n->size * sizeof(float));
        here.normal = piece(&p, (ROWS + (size_t)MOST_LATE * ROWS) * n->size * sizeof(float));
        here.gates = piece(&p, ROWS * wide * sizeof(float));
        here.hidden = piece(&p, (size_t)ROWS * n->size * sizeof(float));
        here.cell = piece(&p, (size_t)ROWS * n->size * sizeof(float));
        here.scores = piece(&p, (size_t)ROWS * n->head.blocks * BLOCK * sizeof(float));
        here.scales = piece(&p, ROWS * sizeof(float));
        here.sums = piece(&p, ROWS * sizeof(int32_t));
        here.bytes = piece(&p, (size_t)ROWS * most);
        if (twice) *work = here;
        else if (!(work = aligned(p.used))) return NULL;
        p.base = (char *)work;
    }
    return work;
}

EXPORT void rill_network_free(Network *n) {
    if (!n) return;
    for (int k = 0; k < KEPT; k++) release(n->kept[k]);
    release(n->memory);
    free(n);
}

/* NULL without memory, or for sizes that the kernels cannot run. */
EXPORT Network *rill_network_new(const Sizes *sizes, const void *const *parts) {
    if (sizes->size % LANES || !sizes->size || sizes->layers > MOST_LAYERS || sizes->fft & (sizes->fft - 1) ||
        sizes->fft < 4 || sizes->window > sizes->fft || !sizes->outputs || sizes->kernel > rill_network_kernel())
        return NULL;
    Network *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->mels = sizes->mels, n->stack = sizes->stack, n->size = sizes->size, n->layers = sizes->layers;
    n->head_layer = sizes->head_layer, n->hop = sizes->hop, n->window = sizes->window, n->fft = sizes->fft;
    n->floor = sizes->floor, n->kernel = sizes->kernel;
    n->freqs_one = (n->mels + 1) / 2, n->freqs_two = (n->freqs_one + 1) / 2;
    for (uint32_t l = 0; l < n->layers; l++) {
        if (sizes->late[l] > MOST_LATE) return free(n), NULL;
        n->lates += sizes->late[l];
    }
    Piece p = {NULL, 0};
    assemble(n, &p, sizes, parts);
    n->memory = p.base = aligned(p.used);
    if (!p.base) return free(n), NULL;
    p.used = 0;
    assemble(n, &p, sizes, parts);
    return n;
}
