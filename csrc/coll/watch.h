/* The watch: one thread drives what nobody else does, and sleeps when nothing is under way. */
#ifndef TOPOCOMM_WATCH_H
#define TOPOCOMM_WATCH_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum watched { IDLE_WATCHED, USED_WATCHED, QUIET_WATCHED, MOVING_WATCHED, CALLING_WATCHED };

typedef struct watched_entry {
    /* Drive it, unless somebody does. Idle: nothing is under way · used: somebody else drives it · quiet: nothing
     * happened · moving · calling: something needs the caller. */
    enum watched (*drive)(struct watched_entry *);
    struct watched_entry *next;
} watched_entry;

/* List what the watch drives from now on, or no more: then it is in no drive. */
void watch_add(watched_entry *entry);
void watch_remove(watched_entry *entry);
/* Wake the watch if it sleeps: something is under way. */
void watch_wake(void);
#endif
