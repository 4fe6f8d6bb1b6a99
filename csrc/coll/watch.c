/* The watch: looks every tenth of a millisecond, less often the longer nothing happens or while others drive; 20 ms after
 * the last request has ended it sleeps until it is woken, so that programs which wait at once do not pay for waking.
 */
#include "watch.h"

#include <pthread.h>
#include <time.h>

#include "pause.h"
#include "request.h"
#include "ticket.h"

#define SHORT 1e-4   /* seconds between two looks at requests that move */
#define LONG 1e-3    /* at those that do not, or with none under way */
#define LINGER 2e-2  /* seconds of looking with none under way */

static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER, sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static watched_entry *entries;
static atomic_bool asleep, called, ended;

void watch_add(watched_entry *entry) {
    pthread_mutex_lock(&entries_lock);
    entry->next = entries;
    entries = entry;
    pthread_mutex_unlock(&entries_lock);
}

void watch_remove(watched_entry *entry) {
    pthread_mutex_lock(&entries_lock);
    watched_entry **at = &entries;
    while (*at && *at != entry) at = &(*at)->next;
    if (*at) *at = entry->next;
    pthread_mutex_unlock(&entries_lock);
}

static void wake(void) {
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&woken);
    pthread_mutex_unlock(&sleep_lock);
}

void watch_wake(void) {
    if (atomic_load(&asleep)) wake();
}

static enum watched drive_all(void) {
    enum watched most = IDLE_WATCHED;
    pthread_mutex_lock(&entries_lock);
    for (watched_entry *e = entries; e && !atomic_load(&ended); e = e->next) {
        enum watched found = e->drive(e);
        if (found > most) most = found;
    }
    pthread_mutex_unlock(&entries_lock);
    return most;
}

static void doze(double seconds) {
    struct timespec t = {0, (long)(1e9 * seconds)};
    nanosleep(&t, NULL);
}

/* Sleep until something is under way or somebody calls. */
static void sleep_deep(void) {
    pthread_mutex_lock(&sleep_lock);
    atomic_store(&asleep, true);
    bool idle = drive_all() == IDLE_WATCHED; /* what started before it was seen that we sleep */
    if (idle && !atomic_load(&called) && !atomic_load(&ended)) pthread_cond_wait(&woken, &sleep_lock);
    atomic_store(&asleep, false);
    pthread_mutex_unlock(&sleep_lock);
}

int tc_watch(double seconds) {
    double begun = seconds_now(), moved = begun, used = begun;
    for (;;) {
        if (atomic_load(&ended)) return TC_OK;
        if (atomic_exchange(&called, false)) return TC_AGAIN;
        enum watched found = drive_all();
        if (found == CALLING_WATCHED) return TC_NEEDS_REDUCE;
        double time = seconds_now();
        if (seconds > 0 && time >= begun + seconds) return TC_AGAIN;
        if (found == MOVING_WATCHED) moved = time;
        if (found != IDLE_WATCHED) used = time;
        if (seconds == 0 && time - used > LINGER)
            sleep_deep();
        else if (found == IDLE_WATCHED || found == USED_WATCHED || (time - moved) / 16 > LONG)
            doze(LONG);
        else
            doze((time - moved) / 16 > SHORT ? (time - moved) / 16 : SHORT);
    }
}

int tc_watch_call(void) {
    atomic_store(&called, true);
    wake();
    return TC_OK;
}

int tc_watch_end(void) {
    atomic_store(&ended, true);
    wake();
    pthread_mutex_lock(&entries_lock); /* the watch drives nothing any more */
    pthread_mutex_unlock(&entries_lock);
    tickets_end();
    return TC_OK;
}
