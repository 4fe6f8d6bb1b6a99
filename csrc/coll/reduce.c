/* Kernels: target = landing ∘ target, or target ∘ landing, element by element, with MPI's operations.
 *
 * The order of the operands shows in the bits: which zero, which not-a-number a minimum gives. Buffers may lie anywhere,
 * so elements are read unaligned. Vector code comes from the compiler, one version for each kind of processor.
 */
#include <string.h>

#include "run.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif
/* A sanitizer is not ready when the versions are chosen. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define VECTOR __attribute__((target_clones("avx2", "default")))
#else
#define VECTOR
#endif
#define ANYWHERE __attribute__((aligned(1), may_alias))

typedef int8_t ANYWHERE int8;
typedef int16_t ANYWHERE int16;
typedef int32_t ANYWHERE int32;
typedef int64_t ANYWHERE int64;
typedef uint8_t ANYWHERE uint8;
typedef uint16_t ANYWHERE uint16;
typedef uint32_t ANYWHERE uint32;
typedef uint64_t ANYWHERE uint64;
typedef float ANYWHERE real;
typedef double ANYWHERE twofold;
typedef long double ANYWHERE longest;
typedef float _Complex ANYWHERE complex_real;
typedef double _Complex ANYWHERE complex_twofold;

/* Both orders of one operation: x is the earlier operand, y the later one. */
#define KERNEL(operation, name, type, expression)                                                         \
    VECTOR static void operation##_##name##_after(const void *landing, void *target, size_t n) {          \
        const type *restrict right = landing;                                                             \
        type *restrict out = target;                                                                      \
        for (size_t i = 0; i < n; i++) {                                                                  \
            type x = out[i], y = right[i];                                                                \
            out[i] = (type)(expression);                                                                  \
        }                                                                                                 \
    }                                                                                                     \
    VECTOR static void operation##_##name##_before(const void *landing, void *target, size_t n) {         \
        const type *restrict left = landing;                                                              \
        type *restrict out = target;                                                                      \
        for (size_t i = 0; i < n; i++) {                                                                  \
            type x = left[i], y = out[i];                                                                 \
            out[i] = (type)(expression);                                                                  \
        }                                                                                                 \
    }

/* Unsigned arithmetic gives the bits of signed arithmetic that wraps, without its undefined overflow. */
#define ARITHMETIC(name, type, wide)                    \
    KERNEL(sum, name, type, (wide)y + (wide)x)          \
    KERNEL(prod, name, type, (wide)y * (wide)x)         \
    COMPARING(name, type)
#define COMPARING(name, type)                           \
    KERNEL(min, name, type, y < x ? y : x)              \
    KERNEL(max, name, type, y > x ? y : x)
#define BITWISE(name, type)                             \
    KERNEL(land, name, type, y && x)                    \
    KERNEL(lor, name, type, y || x)                     \
    KERNEL(lxor, name, type, !y != !x)                  \
    KERNEL(band, name, type, y & x)                     \
    KERNEL(bor, name, type, y | x)                      \
    KERNEL(bxor, name, type, y ^ x)

#define INTEGER(name, type, wide) ARITHMETIC(name, type, wide) BITWISE(name, type)
INTEGER(int8, int8, uint32_t)
INTEGER(int16, int16, uint32_t)
INTEGER(int32, int32, uint32_t)
INTEGER(int64, int64, uint64_t)
INTEGER(uint8, uint8, uint32_t)
INTEGER(uint16, uint16, uint32_t)
INTEGER(uint32, uint32, uint32_t)
INTEGER(uint64, uint64, uint64_t)
ARITHMETIC(float, real, float)
ARITHMETIC(double, twofold, double)
ARITHMETIC(long_double, longest, long double)
KERNEL(sum, complex_float, complex_real, y + x)
KERNEL(prod, complex_float, complex_real, y *x)
KERNEL(sum, complex_double, complex_twofold, y + x)
KERNEL(prod, complex_double, complex_twofold, y *x)

/* A value and its place: of equal ones the lower place. Padding stays as it is. */
#define PAIR(name, type)                                                                                  \
    typedef struct pair_##name {                                                                          \
        type value;                                                                                       \
        int at;                                                                                           \
    } pair_##name;                                                                                        \
    CHOOSING(minloc, name, <)                                                                             \
    CHOOSING(maxloc, name, >)
#define CHOOSING(operation, name, better)                                                                 \
    CHOICE(operation##_pair_##name##_after, name, better, target, landing)                                \
    CHOICE(operation##_pair_##name##_before, name, better, landing, target)
/* Where the values are equal or no numbers, the later operand gives the value. */
#define CHOICE(function, name, better, earlier, later)                                                    \
    static void function(const void *landing, void *target, size_t n) {                                   \
        for (size_t i = 0; i < n; i++) {                                                                  \
            pair_##name x, y, out;                                                                        \
            memcpy(&x, (const char *)(earlier) + i * sizeof x, sizeof x);                                 \
            memcpy(&y, (const char *)(later) + i * sizeof y, sizeof y);                                   \
            memcpy(&out, (char *)target + i * sizeof out, sizeof out);                                    \
            bool first = x.value better y.value;                                                          \
            out.value = first ? x.value : y.value;                                                        \
            out.at = first || (x.value == y.value && x.at < y.at) ? x.at : y.at;                          \
            memcpy((char *)target + i * sizeof out, &out, sizeof out);                                    \
        }                                                                                                 \
    }
PAIR(float, float)
PAIR(double, double)
PAIR(long, long)
PAIR(int, int)
PAIR(short, short)
PAIR(long_double, long double)

#define BOTH(operation, name) {operation##_##name##_after, operation##_##name##_before}
#define ARITHMETIC_ROW(name)                                                                              \
    [TC_SUM] = BOTH(sum, name), [TC_PROD] = BOTH(prod, name), [TC_MIN] = BOTH(min, name),                 \
    [TC_MAX] = BOTH(max, name)
#define INTEGER_ROW(name)                                                                                 \
    ARITHMETIC_ROW(name), [TC_LAND] = BOTH(land, name), [TC_LOR] = BOTH(lor, name),                       \
        [TC_LXOR] = BOTH(lxor, name), [TC_BAND] = BOTH(band, name), [TC_BOR] = BOTH(bor, name),           \
        [TC_BXOR] = BOTH(bxor, name)
#define PAIR_ROW(name)                                                                                    \
    [TC_MINLOC] = BOTH(minloc, pair_##name), [TC_MAXLOC] = BOTH(maxloc, pair_##name)

static const kernel kernels[TC_ELEMENTS][TC_OPERATIONS][2] = {
    [TC_INT8] = {INTEGER_ROW(int8)},
    [TC_INT16] = {INTEGER_ROW(int16)},
    [TC_INT32] = {INTEGER_ROW(int32)},
    [TC_INT64] = {INTEGER_ROW(int64)},
    [TC_UINT8] = {INTEGER_ROW(uint8)},
    [TC_UINT16] = {INTEGER_ROW(uint16)},
    [TC_UINT32] = {INTEGER_ROW(uint32)},
    [TC_UINT64] = {INTEGER_ROW(uint64)},
    [TC_FLOAT] = {ARITHMETIC_ROW(float)},
    [TC_DOUBLE] = {ARITHMETIC_ROW(double)},
    [TC_LONG_DOUBLE] = {ARITHMETIC_ROW(long_double)},
    [TC_COMPLEX_FLOAT] = {[TC_SUM] = BOTH(sum, complex_float), [TC_PROD] = BOTH(prod, complex_float)},
    [TC_COMPLEX_DOUBLE] = {[TC_SUM] = BOTH(sum, complex_double), [TC_PROD] = BOTH(prod, complex_double)},
    [TC_PAIR_FLOAT] = {PAIR_ROW(float)},
    [TC_PAIR_DOUBLE] = {PAIR_ROW(double)},
    [TC_PAIR_LONG] = {PAIR_ROW(long)},
    [TC_PAIR_INT] = {PAIR_ROW(int)},
    [TC_PAIR_SHORT] = {PAIR_ROW(short)},
    [TC_PAIR_LONG_DOUBLE] = {PAIR_ROW(long_double)},
};

static const uint32_t widths[TC_ELEMENTS] = {
    1, 2, 4, 8, 1, 2, 4, 8, sizeof(float), sizeof(double), sizeof(long double), sizeof(float _Complex),
    sizeof(double _Complex), sizeof(pair_float), sizeof(pair_double), sizeof(pair_long), sizeof(pair_int),
    sizeof(pair_short), sizeof(pair_long_double)};

kernel kernel_of(uint32_t operation, uint32_t element, bool before) {
    return operation < TC_OPERATIONS && element < TC_ELEMENTS ? kernels[element][operation][before] : NULL;
}

uint32_t element_bytes(uint32_t element) {
    return element < TC_ELEMENTS ? widths[element] : 0;
}

int tc_reduce(uint32_t operation, uint32_t element, uint32_t before, const void *landing, void *target, size_t n) {
    kernel combine = kernel_of(operation, element, before != 0);
    if (combine == NULL) return TC_ERR_UNSUPPORTED;
    combine(landing, target, n);
    return TC_OK;
}
