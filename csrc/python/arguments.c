/* Reading mpi4py's arguments where they are plain: arrays in one piece, bare, as [array, datatype] or as
 * [array, count, datatype]; MPI.IN_PLACE; counts in a list or tuple. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "memo.h"

facts known_facts;

typedef struct signature {
    bool send, recv, counts, op, root;
} signature;

static const signature signatures[COLLECTIVES] = {
    [ALLGATHER] = {.send = true, .recv = true},
    [ALLTOALL] = {.send = true, .recv = true},
    [ALLREDUCE] = {.send = true, .recv = true, .op = true},
    [REDUCE_SCATTER_BLOCK] = {.send = true, .recv = true, .op = true},
    [BCAST] = {.recv = true, .root = true},
    [REDUCE] = {.send = true, .recv = true, .op = true, .root = true},
    [GATHER] = {.send = true, .recv = true, .root = true},
    [SCATTER] = {.send = true, .recv = true, .root = true},
    [BARRIER] = {0},
    [REDUCE_SCATTER] = {.send = true, .recv = true, .counts = true, .op = true},
};

enum place { SEND, RECV, COUNTS, OP, ROOT, PLACES };

intptr_t handle_at(const void *object, size_t at) {
    if (known_facts.handle_bytes == sizeof(int32_t)) {
        int32_t narrow;
        memcpy(&narrow, (const char *)object + at, sizeof narrow);
        return narrow;
    }
    intptr_t wide;
    memcpy(&wide, (const char *)object + at, sizeof wide);
    return wide;
}

/* --- which argument is which ---------------------------------------------------------------------------------- */
static int place_of(PyObject *keyword, enum collective collective) {
    static const char *const names[] = {"sendbuf", "recvbuf", "recvcounts", "op", "root", "algorithm"};
    for (int place = 0; place <= PLACES; place++) {
        const char *name = collective == BCAST && place == RECV ? "buf" : names[place];
        if (PyUnicode_CompareWithASCIIString(keyword, name) == 0) return place;
    }
    return -1;
}

/* Sort the arguments into their places; false if one is unknown, given twice, or missing. */
static bool sort_arguments(enum collective collective, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                           PyObject **found) {
    const signature *s = &signatures[collective];
    const bool takes[PLACES] = {s->send, s->recv, s->counts, s->op, s->root};
    Py_ssize_t given = 0;
    for (int place = 0; place < PLACES; place++) found[place] = takes[place] && given < nargs ? args[given++] : NULL;
    if (given != nargs) return false;
    Py_ssize_t nkeywords = kwnames ? PyTuple_Size(kwnames) : 0;
    for (Py_ssize_t k = 0; k < nkeywords; k++) {
        int place = place_of(PyTuple_GetItem(kwnames, k), collective);
        if (place == PLACES && args[nargs + k] == Py_None) continue; /* no algorithm */
        if (place < 0 || place == PLACES || !takes[place] || found[place]) return false;
        found[place] = args[nargs + k];
    }
    return (!s->send || found[SEND]) && (!s->recv || found[RECV]) && (!s->counts || found[COUNTS]);
}

/* --- one argument --------------------------------------------------------------------------------------------- */
static datatype of_format(const char *format) {
    const datatype none = {0, 0};
    if (format == NULL) return none;
    const datatype *table = known_facts.by_code;
    if (format[0] == 'Z') {
        table = known_facts.by_complex;
        format++;
    }
    unsigned char code = (unsigned char)format[0];
    return code && code < 128 && format[1] == 0 ? table[code] : none;
}

static datatype of_handle(intptr_t handle) {
    for (size_t i = 0; i < known_facts.ntypes; i++)
        if (known_facts.types[i].handle == handle) return known_facts.types[i];
    return (datatype){0, 0};
}

static PyObject *dtype_name; /* "dtype" */

/* Return the datatype of an array whose dtype is one of NumPy's own objects, which is found sooner than its format. */
static datatype of_array(PyObject *array) {
    datatype found = {0, 0};
    PyObject *dtype = PyObject_GetAttr(array, dtype_name);
    for (size_t i = 0; dtype && found.bytes == 0 && i < known_facts.narrays; i++)
        if (known_facts.dtypes[i] == dtype) found = known_facts.arrays[i];
    Py_XDECREF(dtype);
    return found;
}

/* Part [array, datatype] or [array, count, datatype]; false if it is neither, or not of mpi4py's own types. */
static bool part_list(PyObject *spec, PyObject **array, PyObject **count, PyObject **named) {
    bool list = PyList_CheckExact(spec);
    Py_ssize_t n = list || PyTuple_CheckExact(spec) ? PyObject_Size(spec) : 0;
    if (n != 2 && n != 3) return false;
    *array = list ? PyList_GetItem(spec, 0) : PyTuple_GetItem(spec, 0);
    *count = n == 2 ? NULL : list ? PyList_GetItem(spec, 1) : PyTuple_GetItem(spec, 1);
    *named = list ? PyList_GetItem(spec, n - 1) : PyTuple_GetItem(spec, n - 1);
    return Py_TYPE(*array) == known_facts.array && Py_TYPE(*named) == known_facts.type;
}

/* Read a count of elements, at most `most`: false if it is none. */
static bool read_count(PyObject *count, uint64_t most, uint64_t *value) {
    if (!PyLong_CheckExact(count)) return false;
    int overflow;
    long long found = PyLong_AsLongLongAndOverflow(count, &overflow);
    *value = (uint64_t)found;
    return !overflow && found >= 0 && *value <= most;
}

/* Read a buffer into the next view: its address, bytes and datatype; false if it is not plain. Its bytes are whole
 * elements, at least one. A count that is given counts the elements of one of its `blocks`, as mpi4py has it. */
static bool read_buffer(call *c, PyObject *spec, bool writable, uint64_t blocks, char **at, uint64_t *bytes,
                        datatype *type) {
    PyObject *array = spec, *count = NULL, *named = NULL;
    if (Py_TYPE(spec) != known_facts.array && !part_list(spec, &array, &count, &named)) return false;
    *type = named ? of_handle(handle_at(named, known_facts.type_at)) : of_array(array);
    if (named && type->bytes == 0) return false;
    Py_buffer *view = &c->views[c->nviews];
    if (PyObject_GetBuffer(array, view, PyBUF_ANY_CONTIGUOUS | (type->bytes ? 0 : PyBUF_FORMAT)) < 0) {
        PyErr_Clear(); /* the Python path raises it again */
        return false;
    }
    c->nviews++;
    if (type->bytes == 0) *type = of_format(view->format);
    if (type->bytes == 0 || (writable && view->readonly)) return false;
    uint64_t block = blocks * (uint64_t)type->bytes, elements;
    *at = view->buf;
    *bytes = (uint64_t)view->len;
    if (count == NULL) return *bytes && *bytes % (uint64_t)type->bytes == 0;
    if (!read_count(count, *bytes / block, &elements)) return false;
    *bytes = elements * block;
    return elements != 0;
}

static bool read_root(call *c, const memo *m, PyObject *root) {
    if (root == NULL) return true; /* 0 */
    if (!PyLong_CheckExact(root)) return false;
    int overflow;
    long value = PyLong_AsLongAndOverflow(root, &overflow);
    if (overflow || value < 0 || value >= m->size) return false;
    c->root = (int32_t)value;
    return true;
}

static bool read_op(call *c, PyObject *op) {
    if (op != NULL && Py_TYPE(op) != known_facts.op) return false;
    c->op = op == NULL ? known_facts.sum : handle_at(op, known_facts.op_at);
    for (size_t i = 0; i < known_facts.noperations; i++)
        if (known_facts.operations[i] == c->op) return true;
    return false;
}

/* --- the buffers ---------------------------------------------------------------------------------------------- */
/* Read the buffers that this rank's part in the call has; false if one is not plain, or their types differ. */
static bool read_both(call *c, PyObject *send, PyObject *recv, uint64_t send_blocks, uint64_t recv_blocks) {
    datatype type = {0, 0};
    if (recv && !read_buffer(c, recv, true, recv_blocks, &c->recv, &c->received, &c->type)) return false;
    c->token = send == known_facts.in_place;
    if (c->token) return recv != NULL;
    if (send && !read_buffer(c, send, false, send_blocks, &c->send, &c->sent, &type)) return false;
    if (send && recv) return type.handle == c->type.handle;
    if (send) c->type = type;
    return true;
}

/* The same of a call whose buffers are multiples of each other: `send_blocks` blocks are sent, `recv_blocks` received. */
static bool read_buffers(call *c, PyObject *send, PyObject *recv, uint64_t send_blocks, uint64_t recv_blocks) {
    if (!read_both(c, send, recv, send_blocks, recv_blocks)) return false;
    if (c->sent && c->received && c->sent * recv_blocks != c->received * send_blocks) return false;
    uint64_t most = c->sent ? send_blocks : 1;
    c->bytes = c->sent ? c->sent : c->received;
    return c->bytes % (most * (uint64_t)c->type.bytes) == 0;
}

/* Set where the input lies: `own` is its place in the receive buffer. */
static void set_input(call *c, char *own) {
    c->in_place = c->token || c->send == own;
    if (c->token) c->send = own;
}

static bool read_equal(call *c, PyObject *send, PyObject *recv) {
    if (!read_buffers(c, send, recv, 1, 1)) return false;
    if (c->recv) set_input(c, c->recv);
    return true;
}

static bool read_allgather(call *c, const memo *m, PyObject *send, PyObject *recv) {
    uint64_t size = (uint64_t)m->size;
    if (!read_buffers(c, send, recv, 1, size)) return false;
    c->bytes = c->received;
    if (c->bytes % (size * (uint64_t)c->type.bytes)) return false;
    set_input(c, c->recv + c->bytes / size * (uint64_t)m->rank);
    return true;
}

static bool read_blocks(call *c, const memo *m, PyObject *send, PyObject *recv, bool reduced) {
    uint64_t size = (uint64_t)m->size;
    if (!read_buffers(c, send, recv, size, reduced && send != known_facts.in_place ? 1 : size)) return false;
    set_input(c, c->recv);
    return c->bytes % (size * (uint64_t)c->type.bytes) == 0;
}

static bool read_gather(call *c, const memo *m, PyObject *send, PyObject *recv) {
    uint64_t size = (uint64_t)m->size;
    bool root = c->root == m->rank;
    if (!read_buffers(c, send, root ? recv : NULL, 1, size)) return false;
    if (!c->token) return true;
    if (c->bytes % (size * (uint64_t)c->type.bytes)) return false;
    c->bytes /= size;
    set_input(c, c->recv + c->bytes * (uint64_t)m->rank);
    return true;
}

static bool read_scatter(call *c, const memo *m, PyObject *send, PyObject *recv) {
    bool root = c->root == m->rank;
    if (recv == known_facts.in_place || !read_buffers(c, root ? send : NULL, recv, (uint64_t)m->size, 1)) return false;
    c->bytes = c->received;
    return !c->token;
}

static bool read_bcast(call *c, PyObject *buf) {
    if (!read_buffers(c, NULL, buf, 1, 1)) return false;
    c->send = c->recv;
    c->in_place = true;
    return true;
}

/* Read the blocks' counts into memory of the call's; false if they are not one whole number of elements for each rank. */
static bool read_counts(call *c, const memo *m, PyObject *counts, uint64_t *sum) {
    bool list = PyList_CheckExact(counts);
    if ((!list && !PyTuple_CheckExact(counts)) || PyObject_Size(counts) != m->size) return false;
    c->counts = malloc((size_t)m->size * sizeof *c->counts);
    *sum = 0;
    for (int32_t rank = 0; c->counts && rank < m->size; rank++) {
        uint64_t count;
        if (!read_count(list ? PyList_GetItem(counts, rank) : PyTuple_GetItem(counts, rank), INT_MAX, &count)) return false;
        c->counts[rank] = (int)count;
        *sum += count;
    }
    return c->counts != NULL;
}

static bool read_reduce_scatter(call *c, const memo *m, PyObject *send, PyObject *recv, PyObject *counts) {
    uint64_t sum;
    if (send == known_facts.in_place || !read_both(c, send, recv, 1, 1) || !read_counts(c, m, counts, &sum))
        return false;
    c->bytes = c->sent;
    c->in_place = c->send == c->recv;
    uint64_t element = (uint64_t)c->type.bytes;
    return c->sent == sum * element && c->received == (uint64_t)c->counts[m->rank] * element;
}

static bool read_by_collective(call *c, const memo *m, PyObject **found) {
    PyObject *send = found[SEND], *recv = found[RECV];
    switch (c->collective) {
    case ALLGATHER: return read_allgather(c, m, send, recv);
    case ALLTOALL: return read_blocks(c, m, send, recv, false);
    case REDUCE_SCATTER_BLOCK: return read_blocks(c, m, send, recv, true);
    case ALLREDUCE: return read_equal(c, send, recv);
    case REDUCE: return read_equal(c, send, c->root == m->rank ? recv : NULL);
    case BCAST: return read_bcast(c, recv);
    case GATHER: return read_gather(c, m, send, recv);
    case SCATTER: return read_scatter(c, m, send, recv);
    case REDUCE_SCATTER: return read_reduce_scatter(c, m, send, recv, found[COUNTS]);
    default: return true;
    }
}

bool call_read(call *c, const memo *m, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *found[PLACES];
    c->token = c->in_place = false;
    c->root = 0;
    c->op = 0;
    c->type = (datatype){0, 0};
    c->bytes = 0;
    c->send = c->recv = NULL;
    c->sent = c->received = 0;
    c->counts = NULL;
    c->nviews = 0;
    if (!sort_arguments(c->collective, args, nargs, kwnames, found)) return false;
    if (signatures[c->collective].root && !read_root(c, m, found[ROOT])) return false;
    if (signatures[c->collective].op && !read_op(c, found[OP])) return false;
    if (read_by_collective(c, m, found)) return true;
    call_release(c);
    return false;
}

void call_release(call *c) {
    while (c->nviews > 0) PyBuffer_Release(&c->views[--c->nviews]);
    free(c->counts);
    c->counts = NULL;
}

/* --- facts ---------------------------------------------------------------------------------------------------- */
static bool take_count(PyObject *tuple, size_t most, const char *of, size_t *n) {
    *n = (size_t)PyTuple_Size(tuple);
    if (*n > most) PyErr_Format(PyExc_ValueError, "at most %zu %s, found %zu", most, of, *n);
    return *n <= most;
}

static bool take_handles(PyObject *numbers, intptr_t *out, size_t most, size_t *n) {
    if (!take_count(numbers, most, "numbers", n)) return false;
    for (size_t i = 0; i < *n; i++) out[i] = (intptr_t)PyLong_AsLongLong(PyTuple_GetItem(numbers, (Py_ssize_t)i));
    return !PyErr_Occurred();
}

static bool take_types(PyObject *types) {
    facts *f = &known_facts;
    if (!take_count(types, MOST_TYPES, "datatypes", &f->ntypes)) return false;
    for (size_t i = 0; i < f->ntypes; i++) {
        long long handle, bytes;
        if (!PyArg_ParseTuple(PyTuple_GetItem(types, (Py_ssize_t)i), "LL", &handle, &bytes)) return false;
        f->types[i] = (datatype){(intptr_t)handle, bytes};
    }
    return true;
}

static bool take_arrays(PyObject *arrays) {
    facts *f = &known_facts;
    if (!take_count(arrays, MOST_ARRAYS, "dtypes", &f->narrays)) return false;
    for (size_t i = 0; i < f->narrays; i++) {
        long long handle;
        if (!PyArg_ParseTuple(PyTuple_GetItem(arrays, (Py_ssize_t)i), "OL", &f->dtypes[i], &handle)) return false;
        Py_INCREF(f->dtypes[i]);
        f->arrays[i] = of_handle((intptr_t)handle);
    }
    return true;
}

static bool take_formats(PyObject *formats) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(formats, &at, &key, &value)) {
        const char *code = PyUnicode_AsUTF8AndSize(key, NULL);
        long long handle = PyLong_AsLongLong(value);
        if (code == NULL || PyErr_Occurred()) return false;
        datatype *table = code[0] == 'Z' ? known_facts.by_complex : known_facts.by_code;
        table[(unsigned char)code[code[0] == 'Z'] & 127] = of_handle((intptr_t)handle);
    }
    return true;
}

PyObject *facts_take(PyObject *module, PyObject *args) {
    (void)module;
    facts *f = &known_facts;
    PyObject *functions, *types, *arrays, *formats, *operations;
    unsigned long long in_place;
    long long sum;
    size_t n;
    intptr_t addresses[COLLECTIVES];
    if (!PyArg_ParseTuple(args, "(OOOOO)(nnnn)O!KLO!O!O!O!:know", &f->array, &f->type, &f->op, &f->in_place,
                          &f->exception, &f->handle_bytes, &f->comm_at, &f->type_at, &f->op_at, &PyTuple_Type,
                          &functions, &in_place, &sum, &PyTuple_Type, &operations, &PyTuple_Type, &types, &PyTuple_Type,
                          &arrays, &PyDict_Type, &formats))
        return NULL;
    if (dtype_name == NULL && (dtype_name = PyUnicode_InternFromString("dtype")) == NULL) return NULL;
    PyObject *held[] = {(PyObject *)f->array, (PyObject *)f->type, (PyObject *)f->op, f->in_place, f->exception};
    for (int i = 0; i < 5; i++) Py_INCREF(held[i]); /* for as long as the process lives */
    f->mpi_in_place = (void *)(uintptr_t)in_place;
    f->sum = (intptr_t)sum;
    if (!take_handles(operations, f->operations, MOST_OPERATIONS, &f->noperations) || !take_types(types) ||
        !take_arrays(arrays) || !take_formats(formats) || !take_handles(functions, addresses, COLLECTIVES, &n))
        return NULL;
    if (n != COLLECTIVES) return PyErr_Format(PyExc_ValueError, "%d functions, found %zu", COLLECTIVES, n);
    for (int i = 0; i < COLLECTIVES; i++) f->functions[i] = (uintptr_t)addresses[i];
    Py_RETURN_NONE;
}
