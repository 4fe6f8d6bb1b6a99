/* Processes of this host: is one running, stopped, or gone? */
#ifndef TOPOCOMM_PROCESS_H
#define TOPOCOMM_PROCESS_H
#include <stdint.h>

enum process_state { RUNNING, STOPPED, GONE };

/* When a process began, in the kernel's ticks; 0: it is no more. */
uint64_t process_start(int32_t pid);
/* The state of the process that had this number and began then. */
enum process_state process_state(int32_t pid, uint64_t start);
#endif
