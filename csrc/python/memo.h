/* Calls that are answered in C: what their arguments say, and which calls the Python path has completed before.
 *
 * Everything here runs with the interpreter's lock held. Limited API of Python 3.11.
 */
#ifndef TOPOCOMM_MEMO_H
#define TOPOCOMM_MEMO_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#error "the recogniser needs the interpreter's lock"
#endif

enum collective { ALLGATHER, ALLTOALL, ALLREDUCE, REDUCE_SCATTER_BLOCK, BCAST, REDUCE, GATHER, SCATTER, BARRIER,
                  REDUCE_SCATTER, COLLECTIVES };
enum started { IALLGATHER, IALLTOALL, IALLREDUCE, IREDUCE_SCATTER, IREDUCE_SCATTER_BLOCK, IBCAST, IREDUCE, IGATHER,
               ISCATTER, IBARRIER, ISCAN, IEXSCAN, STARTED };

#define MOST_TYPES 128
#define MOST_ARRAYS 32
#define MOST_OPERATIONS 16
#define KNOWN 16 /* calls of a collective that a memo holds; more take each other's places */

typedef struct datatype {
    intptr_t handle;
    int64_t bytes; /* of an element */
} datatype;

typedef struct facts { /* about mpi4py, NumPy and the MPI library of this process */
    PyTypeObject *array, *type, *op;
    PyObject *in_place, *exception;
    size_t handle_bytes, comm_at, type_at, op_at; /* width of a handle, and its place in mpi4py's objects */
    uintptr_t functions[COLLECTIVES];             /* addresses of MPI's functions */
    void *mpi_in_place;
    intptr_t sum;
    intptr_t operations[MOST_OPERATIONS]; /* predefined ones */
    size_t noperations, ntypes;
    datatype types[MOST_TYPES];             /* predefined ones that are their own bytes */
    PyObject *dtypes[MOST_ARRAYS]; /* NumPy's own, the usual ones first */
    datatype arrays[MOST_ARRAYS];  /* of arrays of these */
    size_t narrays;
    datatype by_code[128], by_complex[128]; /* of a buffer's format: one letter, or one after a Z; 0 bytes: none */
} facts;

/* A call as its arguments say. */
typedef struct call {
    enum collective collective;
    bool token;    /* an argument is MPI.IN_PLACE */
    bool in_place; /* the input lies in the receive buffer */
    int32_t root;
    intptr_t op;
    datatype type;
    uint64_t bytes; /* of a gather's or scatter's block, of the whole vector of others */
    char *send, *recv;
    uint64_t sent, received; /* bytes of the two buffers; 0: the call has none on this rank */
    int *counts;             /* of a reduce_scatter's blocks; NULL for all others */
    Py_buffer views[2];
    int nviews;
} call;

/* Run a program whose memory is given: 0: done · > 0: not yet · < 0: failed. */
typedef int (*program)(void *state, const void *send, void *recv, double seconds);

typedef struct entry {
    uint64_t serial; /* of the process; 0: none */
    bool token, in_place, native;
    int32_t root;
    intptr_t op, type;
    uint64_t first, end; /* bytes that it serves */
    program run;
    void *state;
    PyObject *keep; /* what the program's memory belongs to; NULL: native, or under way */
} entry;

typedef struct memo {
    intptr_t comm; /* handle */
    int32_t rank, size;
    entry *known[COLLECTIVES];     /* KNOWN each, from the first that is remembered on */
    uint32_t next[COLLECTIVES];    /* the entry that gives way */
    uint32_t refused[COLLECTIVES]; /* calls in a row that were not remembered */
    uint32_t left; /* non-blocking calls that are left to the MPI library, unless one names an algorithm: bits */
    uint64_t natives, programs, misses, remembered;
    struct objects *objects; /* calls on Python objects; NULL: the Python path makes them */
} memo;

extern facts known_facts;

/* --- arguments.c -------------------------------------------------------------------------------------------------- */
/* Return the handle that one of mpi4py's objects holds `at` bytes from its beginning. */
intptr_t handle_at(const void *object, size_t at);
/* Read the arguments of a call: false, with nothing held and no error set, if only the Python path can. */
bool call_read(call *c, const memo *m, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
void call_release(call *c);
/* Make `know`, which takes the facts. */
PyObject *facts_take(PyObject *module, PyObject *args);

/* --- recogniser.c ------------------------------------------------------------------------------------------------- */
/* Return what mpi4py.MPI has by this name. */
PyObject *of_mpi4py(const char *name);
/* Make the type of a spec below a class: its instances have `more` bytes behind the class's own, from `at` on. */
PyObject *type_below(PyObject *class, PyType_Spec *spec, size_t more, size_t *at);
/* Return the keyword arguments of a call as a dictionary. */
PyObject *keywords_of(PyObject *const *values, PyObject *kwnames);
/* Call a method by its name. */
PyObject *python_path(PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* --- starting.c --------------------------------------------------------------------------------------------------- */
int starting_open(void);
PyObject *starting_call(PyObject *self, const memo *m, enum started call, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
/* Leave the non-blocking calls of a collective to the MPI library from now on. */
PyObject *starting_leave(memo *m, PyObject *name);

/* --- request.c ---------------------------------------------------------------------------------------------------- */
/* Make the type below topocomm's requests; `know_requests`, which takes where mpi4py keeps MPI's handle. */
PyObject *requests_type(void);
PyObject *requests_know(PyObject *module, PyObject *args);

/* --- memo.c ------------------------------------------------------------------------------------------------------- */
entry *memo_find(memo *m, const call *c);
/* Return whether a call that was not found should be remembered: rarely if there is no room, or it was refused. */
bool memo_wants(memo *m, const call *c);
/* Remember what the Python path says of a call: None, (first, end) of native, or (run, state, keep, in place). Return
 * -1 with an error set if it says anything else. */
int memo_learn(memo *m, const call *c, PyObject *value);
void memo_free(memo *m);
#endif
