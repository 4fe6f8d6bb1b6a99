/* What ranks of a simulated host give in a call, the sum of it, and numbers that look random. */
#ifndef GIVEN_H
#define GIVEN_H
#include <stdint.h>

static inline uint32_t next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Byte `i` of what a rank gives in a call. */
static inline unsigned char given(uint32_t call, uint32_t who, uint64_t i) {
    return (unsigned char)(call * 7 + who * 31 + i * 13 + (i >> 8));
}

static inline unsigned char summed(uint32_t call, uint32_t size, uint64_t i) {
    unsigned char out = 0;
    for (uint32_t r = 0; r < size; r++) out = (unsigned char)(out + given(call, r, i));
    return out;
}
#endif
