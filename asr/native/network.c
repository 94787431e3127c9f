/* The acoustic network in 8 bits: samples to log-probabilities, for LSTMs behind two convolutions.

   A general runtime spends much of its time around the products of such a network when a chunk has few frames. Here the
   weights are read once a chunk, those of the recurrence once a frame, and little else takes time. A row is computed in
   the same way whatever is beside it, so any chunks, and any streams together, give the same bits. */
#define _GNU_SOURCE  // for madvise
#define EXPORT __attribute__((visibility("default")))
#include "network.h"
#include <math.h>
#if defined(__linux__)
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "processor.h"
#include "dots.h"

#define PASTE(a, b) a##_##b
#define JOINED(a, b) PASTE(a, b)
#define NAME(f) JOINED(f, KERNEL)

static INLINE v16 chosen(w16 first, v16 a, v16 b) {
    return (v16)((first & (w16)a) | (~first & (w16)b));
}

#define KERNEL portable
#define TARGET
#define FUSED(a, b, c) ((a) * (b) + (c))
#define LARGER(a, b) chosen((a) > (b), (a), (b))
#define SMALLER(a, b) chosen((a) < (b), (a), (b))
#include "kernel.h"

#if defined(__x86_64__)
#define KERNEL avx512
#define TARGET WIDE
#define FUSED(a, b, c) ((v16)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LARGER(a, b) ((v16)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define SMALLER(a, b) ((v16)_mm512_min_ps((__m512)(a), (__m512)(b)))
#include "kernel.h"
#endif

enum { PORTABLE, AVX512 };
static Run *const runs[] = {
    run_portable,
#if defined(__x86_64__)
    run_avx512,
#endif
};

/* The fastest kernel that this processor runs; 0 is the portable one, which is slow. */
EXPORT uint32_t rill_network_kernel(void) {
#if defined(__x86_64__)
    if (processor_has_avx512_vnni()) return AVX512;
#endif
    return PORTABLE;
}

#include "packing.h"

static Work *taken(Network *n) {
    for (int k = 0; k < KEPT; k++) {
        Work *work = atomic_exchange(n->kept + k, NULL);
        if (work) return work;
    }
    return new_work(n);
}

static void put_back(Network *n, Work *work) {
    for (int k = 0; k < KEPT; k++) {
        Work *none = NULL;
        if (atomic_compare_exchange_strong(n->kept + k, &none, work)) return;
    }
    release(work);
}

/* Frames of many streams: `samples` of each that cover them, its memory `before` and `after`, and its `rows` (frames,
   outputs). Returns 0, or 1 without memory. */
EXPORT int rill_network_run(Network *n, uint32_t streams, uint32_t frames, const float *const *samples,
                            const float *const *before, float *const *after, float *const *rows) {
    Work *work = taken(n);
    if (!work) return 1;
    uint32_t outputs = n->head.outputs;
    for (uint32_t first = 0; first < streams; first += ROWS) {
        uint32_t many = streams - first < ROWS ? streams - first : ROWS, most = ROWS / many;
        for (uint32_t frame = 0; frame < frames; frame += most) {
            const float *heard[ROWS];
            float *found[ROWS];
            for (uint32_t b = 0; b < many; b++) {
                heard[b] = samples[first + b] + (size_t)frame * n->stack * n->hop;
                found[b] = rows[first + b] + (size_t)frame * outputs;
            }
            const float *const *from = frame ? (const float *const *)after : before;
            runs[n->kernel](n, work, many, frames - frame < most ? frames - frame : most, heard, from + first,
                            after + first, found);
        }
    }
    put_back(n, work);
    return 0;
}
