/* The memory of a process that the others of its host map. */
#ifndef TOPOCOMM_POOL_H
#define TOPOCOMM_POOL_H
#include <stdbool.h>

#include "share.h"

#define PAGE 4096u

int pool_take(uint64_t bytes, uint64_t *offset, void **base);
void pool_give(uint64_t offset, void *base, uint64_t bytes);
int pool_address(tc_share_address *out);
/* Is the memory of another process within reach? */
bool pool_reached(const tc_share_address *address);
int pool_map(const tc_share_address *address, uint64_t offset, uint64_t bytes, char **base);
void pool_unmap(const void *base, uint64_t bytes);
#endif
