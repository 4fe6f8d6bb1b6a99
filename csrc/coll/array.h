/* Arrays that the processes of a host can reach. */
#ifndef TOPOCOMM_ARRAY_H
#define TOPOCOMM_ARRAY_H
#include "node.h"
#include "pool.h"

/* Whether memory lies in an array of this process, and at which offset of what it shows to others. */
bool array_holds(const void *at, uint64_t bytes, uint64_t *offset);
/* Return where memory of another process, or of this one, is found here; NULL: it cannot be reached. */
char *array_reach(const tc_share_address *owner, uint64_t offset, uint64_t bytes);
#endif
