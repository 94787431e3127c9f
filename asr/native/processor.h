/* What instructions this processor and system have. `__builtin_cpu_supports` is not asked: in what zig links, nobody has
   filled its table, and it denies everything. */
#ifndef PROCESSOR_H
#define PROCESSOR_H
#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

/* Bits of leaf 7 that all must be there, in ebx and ecx; the system must keep the registers of these kinds (xcr0). */
static inline int processor_has(uint32_t seven_b, uint32_t seven_c, uint32_t kept) {
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || !(c >> 12 & 1)) return 0;  // xgetbv, fma
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & kept) != kept || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b & seven_b) == seven_b && (c & seven_c) == seven_c;
}

/* AVX2 and FMA. */
static inline int processor_has_avx2(void) { return processor_has(1u << 5, 0, 0x06); }

/* AVX-512 F, DQ, BW, VL and VNNI, AVX2 and FMA. */
static inline int processor_has_avx512_vnni(void) {
    return processor_has(1u << 5 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, 1u << 11, 0xE6);
}
#endif
#endif
