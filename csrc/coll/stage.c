/* Stages of a process: one for every large call under way, kept for the next. */
#include "stage.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"

static struct {
    pthread_mutex_t busy;
    pid_t pid; /* of the process whose they are: not of its children */
    char *first;
} stages = {.busy = PTHREAD_MUTEX_INITIALIZER};

int stage_take(char **at, uint64_t *offset) {
    pthread_mutex_lock(&stages.busy);
    if (stages.pid != getpid()) stages.first = NULL;
    stages.pid = getpid();
    char *found = stages.first;
    if (found) memcpy(&stages.first, found, sizeof found); /* an idle stage begins with the next one's address */
    pthread_mutex_unlock(&stages.busy);
    void *made = found;
    int status = found ? TC_OK : tc_array_new(STAGE, &made);
    if (status != TC_OK) return status;
    array_holds(made, STAGE, offset);
    *at = made;
    return TC_OK;
}

void stage_give(char *at) {
    pthread_mutex_lock(&stages.busy);
    memcpy(at, &stages.first, sizeof at);
    stages.first = at;
    pthread_mutex_unlock(&stages.busy);
}
