/* Stages: memory that the processes of a host reach, through which large calls bring what lies in ordinary arrays. */
#ifndef TOPOCOMM_STAGE_H
#define TOPOCOMM_STAGE_H
#include <stdint.h>

#ifndef STAGE /* tests choose less */
#define STAGE (512u << 10) /* bytes */
#endif

/* Take a stage; `offset` is where it lies in what the process shows to others. */
int stage_take(char **at, uint64_t *offset);
/* Give it back. A process keeps as many as it ever used at once. */
void stage_give(char *at);
#endif
