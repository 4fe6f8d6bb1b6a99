/* Intel MPI's own notified put, for the column put_notify of the put benchmarks: one call sends, one call waits.
 * Compiled at run time by put_notify.py, where mpi.h declares MPIX_Put_notify. Calls resolve in the MPI
 * library that the process has loaded already. Every function returns an MPI error code. */
#include <mpi.h>

static MPI_Comm world;

int notify_open(int fortran_comm) {
    world = MPI_Comm_f2c(fortran_comm);
    return MPI_SUCCESS;
}

/* A window of `bytes` with one notification counter. */
int notify_make(long long bytes, void **base, int *handle) {
    MPI_Win win;
    int error = MPI_Win_allocate((MPI_Aint)bytes, 1, MPI_INFO_NULL, world, base, &win);
    if (!error) error = MPIX_Win_create_notify(win, 1);
    if (!error) error = MPIX_Win_set_notify(win, 0, 0);
    if (!error) error = MPI_Barrier(world);
    if (!error) error = MPI_Win_lock_all(0, win);
    *handle = MPI_Win_c2f(win);
    return error;
}

/* `count` messages of `bytes`, one behind the other, and their completion here. */
int notify_send(int handle, const void *data, int bytes, int count, int peer) {
    MPI_Win win = MPI_Win_f2c(handle);
    int error = MPI_SUCCESS;
    for (int i = 0; i < count && !error; i++)
        error = MPIX_Put_notify(data, bytes, MPI_BYTE, peer, (MPI_Aint)i * bytes, bytes, MPI_BYTE, 0, win);
    return error ? error : MPI_Win_flush_local(peer, win);
}

/* Until `wanted` messages have come since the window was made. */
int notify_wait(int handle, long long wanted) {
    MPI_Win win = MPI_Win_f2c(handle);
    MPI_Count seen = 0;
    int error = MPI_SUCCESS;
    while (!error && seen < wanted) error = MPIX_Win_get_notify(win, 0, &seen);
    return error;
}

int notify_free(int handle) {
    MPI_Win win = MPI_Win_f2c(handle);
    int error = MPI_Win_unlock_all(win);
    if (!error) error = MPIX_Win_free_notify(win);
    return error ? error : MPI_Win_free(&win);
}
