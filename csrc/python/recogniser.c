/* The type below topocomm.Comm: collective calls that are known are made here, all others by the Python path.
 *
 * Its instances are mpi4py's intracommunicators with one field more, a memo. A call that the memo does not know goes to
 * the method of the same name with an underscore before it; then the memo asks `_learn` what serves such calls from now
 * on. A program that does not end at once, or fails, is finished by `_resume`.
 */
#include <stdlib.h>
#include <string.h>

#include "memo.h"
#include "objects.h"

#define SLICE 0.01 /* seconds after which Python must handle signals */

static PyTypeObject *base; /* mpi4py.MPI.Intracomm */
static size_t memo_at;     /* bytes from an instance's beginning to its memo */

static memo **memo_of(PyObject *self) {
    return (memo **)((char *)self + memo_at);
}

static bool base_is(unsigned long flag) {
    return PyType_GetFlags(base) & flag;
}

/* --- the Python path ------------------------------------------------------------------------------------------ */
static const char *const methods[COLLECTIVES] = {"_Allgather", "_Alltoall", "_Allreduce", "_Reduce_scatter_block",
                                                 "_Bcast",     "_Reduce",   "_Gather",    "_Scatter",
                                                 "_Barrier",   "_Reduce_scatter"};
static PyObject *method_names[COLLECTIVES];

PyObject *keywords_of(PyObject *const *values, PyObject *kwnames) {
    PyObject *out = PyDict_New();
    for (Py_ssize_t i = 0; out && i < PyTuple_Size(kwnames); i++)
        if (PyDict_SetItem(out, PyTuple_GetItem(kwnames, i), values[i]) < 0) Py_CLEAR(out);
    return out;
}

static PyObject *positions_of(PyObject *const *args, Py_ssize_t nargs) {
    PyObject *out = PyTuple_New(nargs);
    for (Py_ssize_t i = 0; out && i < nargs; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(out, i, args[i]);
    }
    return out;
}

PyObject *python_path(PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *out = NULL, *keywords = NULL;
    PyObject *method = PyObject_GetAttr(self, name);
    PyObject *positions = method ? positions_of(args, nargs) : NULL;
    if (positions && (kwnames == NULL || (keywords = keywords_of(args + nargs, kwnames))))
        out = PyObject_Call(method, positions, keywords);
    Py_XDECREF(keywords);
    Py_XDECREF(positions);
    Py_XDECREF(method);
    return out;
}

static PyObject *none_for(PyObject *served) {
    if (served == NULL) return NULL;
    Py_DECREF(served);
    Py_RETURN_NONE;
}

/* Make a call by the Python path, and remember what served it. */
static PyObject *make_and_learn(PyObject *self, const call *c, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames) {
    (*memo_of(self))->misses++;
    PyObject *served = python_path(self, method_names[c->collective], args, nargs, kwnames);
    memo *m = *memo_of(self); /* may be another by now, or none */
    if (served == NULL || m == NULL || !memo_wants(m, c)) return none_for(served);
    PyObject *value = PyObject_CallMethod(self, "_learn", "sKO", methods[c->collective] + 1,
                                          (unsigned long long)c->bytes, served);
    Py_DECREF(served);
    m = *memo_of(self);
    if (value && m && memo_learn(m, c, value) < 0) Py_CLEAR(value);
    return none_for(value);
}

/* --- hits ----------------------------------------------------------------------------------------------------- */
typedef int (*barrier)(intptr_t comm);
typedef int (*one)(void *buf, int count, intptr_t type, int root, intptr_t comm);
typedef int (*all_reduced)(const void *send, void *recv, int count, intptr_t type, intptr_t op, intptr_t comm);
typedef int (*scattered)(const void *send, void *recv, const int *counts, intptr_t type, intptr_t op, intptr_t comm);
typedef int (*reduced)(const void *send, void *recv, int count, intptr_t type, intptr_t op, int root, intptr_t comm);
typedef int (*all_moved)(const void *send, int sent, intptr_t send_type, void *recv, int received, intptr_t recv_type,
                         intptr_t comm);
typedef int (*moved)(const void *send, int sent, intptr_t send_type, void *recv, int received, intptr_t recv_type,
                     int root, intptr_t comm);

/* Call MPI's function with the arguments that mpi4py gives it; a narrow handle is passed as a wider integer, which every
 * calling convention puts in the same place. */
static int call_mpi(const call *c, int32_t size, intptr_t comm) {
    uintptr_t f = known_facts.functions[c->collective];
    intptr_t type = c->type.handle;
    const void *send = c->token ? known_facts.mpi_in_place : c->send;
    int count = c->type.bytes ? (int)(c->bytes / (uint64_t)c->type.bytes) : 0;
    int block = c->type.bytes ? (int)(c->bytes / (uint64_t)size / (uint64_t)c->type.bytes) : 0;
    switch (c->collective) {
    case ALLREDUCE: return ((all_reduced)f)(send, c->recv, count, type, c->op, comm);
    case REDUCE_SCATTER_BLOCK: return ((all_reduced)f)(send, c->recv, block, type, c->op, comm);
    case REDUCE_SCATTER: return ((scattered)f)(send, c->recv, c->counts, type, c->op, comm);
    case REDUCE: return ((reduced)f)(send, c->recv, count, type, c->op, c->root, comm);
    case ALLGATHER:
    case ALLTOALL: return ((all_moved)f)(send, block, type, c->recv, block, type, comm);
    case GATHER:
    case SCATTER: return ((moved)f)(send, count, type, c->recv, count, type, c->root, comm);
    case BCAST: return ((one)f)(c->recv, count, type, c->root, comm);
    default: return ((barrier)f)(comm);
    }
}

static PyObject *run_native(const call *c, memo *m) {
    m->natives++;
    int32_t size = m->size;
    intptr_t comm = m->comm;
    PyThreadState *thread = PyEval_SaveThread();
    int code = call_mpi(c, size, comm);
    PyEval_RestoreThread(thread);
    if (code == 0) Py_RETURN_NONE;
    PyObject *number = PyLong_FromLong(code);
    if (number) PyErr_SetObject(known_facts.exception, number);
    Py_XDECREF(number);
    return NULL;
}

/* Give a program back that was taken for a call; it is dropped if its entry has gone. */
static void give_back(PyObject *self, const call *c, int at, uint64_t serial, PyObject *keep) {
    memo *m = *memo_of(self);
    if (m && m->known[c->collective] && m->known[c->collective][at].serial == serial)
        m->known[c->collective][at].keep = keep;
    else
        Py_DECREF(keep);
}

/* Run a program. Nobody else can take it meanwhile: a call of another thread would go the Python path. */
static PyObject *run_program(PyObject *self, const call *c, memo *m, entry *e) {
    m->programs++;
    program run = e->run;
    void *state = e->state;
    PyObject *keep = e->keep;
    uint64_t serial = e->serial;
    int at = (int)(e - m->known[c->collective]);
    e->keep = NULL;
    PyThreadState *thread = PyEval_SaveThread();
    int status = run(state, c->send, c->recv, SLICE);
    PyEval_RestoreThread(thread);
    if (status == 0) {
        give_back(self, c, at, serial, keep);
        Py_RETURN_NONE;
    }
    PyObject *out = PyObject_CallMethod(self, "_resume", "OiKK", keep, status, (unsigned long long)(uintptr_t)c->send,
                                        (unsigned long long)(uintptr_t)c->recv);
    Py_DECREF(keep);
    return none_for(out);
}

static PyObject *dispatch(PyObject *self, enum collective collective, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames) {
    memo *m = *memo_of(self);
    call c;
    c.collective = collective;
    if (m == NULL || handle_at(self, known_facts.comm_at) != m->comm || !call_read(&c, m, args, nargs, kwnames))
        return none_for(python_path(self, method_names[collective], args, nargs, kwnames));
    entry *e = memo_find(m, &c);
    PyObject *out = e == NULL  ? make_and_learn(self, &c, args, nargs, kwnames)
                    : e->native ? run_native(&c, m)
                                : run_program(self, &c, m, e);
    call_release(&c);
    return out;
}

#define METHOD(name, by, what)                                                                                       \
    static PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {             \
        return by(self, what, args, nargs, kwnames);                                                                \
    }
METHOD(allgather, dispatch, ALLGATHER)
METHOD(alltoall, dispatch, ALLTOALL)
METHOD(allreduce, dispatch, ALLREDUCE)
METHOD(reduce_scatter_block, dispatch, REDUCE_SCATTER_BLOCK)
METHOD(bcast, dispatch, BCAST)
METHOD(reduce, dispatch, REDUCE)
METHOD(gather, dispatch, GATHER)
METHOD(scatter, dispatch, SCATTER)
METHOD(barrier_of, dispatch, BARRIER)
METHOD(reduce_scatter, dispatch, REDUCE_SCATTER)

/* --- non-blocking calls --------------------------------------------------------------------------------------- */
static PyObject *start_call(PyObject *self, enum started call, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames) {
    return starting_call(self, *memo_of(self), call, args, nargs, kwnames);
}

METHOD(iallgather, start_call, IALLGATHER)
METHOD(ialltoall, start_call, IALLTOALL)
METHOD(iallreduce, start_call, IALLREDUCE)
METHOD(ireduce_scatter, start_call, IREDUCE_SCATTER)
METHOD(ireduce_scatter_block, start_call, IREDUCE_SCATTER_BLOCK)
METHOD(ibcast, start_call, IBCAST)
METHOD(ireduce, start_call, IREDUCE)
METHOD(igather, start_call, IGATHER)
METHOD(iscatter, start_call, ISCATTER)
METHOD(ibarrier, start_call, IBARRIER)
METHOD(iscan, start_call, ISCAN)
METHOD(iexscan, start_call, IEXSCAN)

static PyObject *leave_started(PyObject *self, PyObject *name) {
    return starting_leave(*memo_of(self), name);
}

/* --- objects -------------------------------------------------------------------------------------------------- */
static const char *const object_methods[OBJECT_CALLS] = {"_allreduce", "_allgather", "_bcast", "_gather", "_reduce"};
static PyObject *object_names[OBJECT_CALLS];

static PyObject *object_call(PyObject *self, enum object_call call, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames) {
    memo *m = *memo_of(self);
    PyObject *out = NULL;
    if (m && m->objects && handle_at(self, known_facts.comm_at) == m->comm)
        out = objects_call(self, memo_of(self), call, args, nargs, kwnames);
    if (out || PyErr_Occurred()) return out;
    return python_path(self, object_names[call], args, nargs, kwnames);
}

METHOD(allreduce_object, object_call, OF_ALLREDUCE)
METHOD(allgather_object, object_call, OF_ALLGATHER)
METHOD(bcast_object, object_call, OF_BCAST)
METHOD(gather_object, object_call, OF_GATHER)
METHOD(reduce_object, object_call, OF_REDUCE)

static PyObject *barrier_as_object(PyObject *self, PyObject *unused) {
    (void)unused;
    return dispatch(self, BARRIER, NULL, 0, NULL);
}

static PyObject *open_objects(PyObject *self, PyObject *unused) {
    (void)unused;
    memo *m = *memo_of(self);
    if (m == NULL || m->objects) Py_RETURN_FALSE;
    m->objects = objects_new(m->size);
    if (m->objects == NULL) return PyErr_NoMemory();
    Py_RETURN_TRUE;
}

/* --- the memo ------------------------------------------------------------------------------------------------- */
static void memo_end(PyObject *self) {
    memo *m = *memo_of(self);
    *memo_of(self) = NULL;
    if (m) memo_free(m); /* only now: finalizers may look at this communicator */
}

static PyObject *open_memo(PyObject *self, PyObject *args) {
    int rank, size;
    if (!PyArg_ParseTuple(args, "ii:_open_memo", &rank, &size)) return NULL;
    if (known_facts.array == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a memo needs the facts of this process: call know first");
        return NULL;
    }
    memo_end(self);
    memo *m = calloc(1, sizeof *m);
    if (m == NULL) return PyErr_NoMemory();
    m->comm = handle_at(self, known_facts.comm_at);
    m->rank = rank;
    m->size = size;
    *memo_of(self) = m;
    Py_RETURN_NONE;
}

static PyObject *close_memo(PyObject *self, PyObject *unused) {
    (void)unused;
    memo_end(self);
    Py_RETURN_NONE;
}

static PyObject *counts(PyObject *self, PyObject *unused) {
    (void)unused;
    const memo *m = *memo_of(self);
    if (m == NULL) Py_RETURN_NONE;
    return Py_BuildValue("{sKsKsKsK}", "native", (unsigned long long)m->natives, "programs",
                         (unsigned long long)m->programs, "misses", (unsigned long long)m->misses, "remembered",
                         (unsigned long long)m->remembered);
}

/* --- the type ------------------------------------------------------------------------------------------------- */
static int traverse(PyObject *self, visitproc visit, void *arg) {
    if (base_is(Py_TPFLAGS_HAVE_GC)) {
        traverseproc of_base = (traverseproc)PyType_GetSlot(base, Py_tp_traverse);
        int found = of_base ? of_base(self, visit, arg) : 0;
        if (found) return found;
    }
    if (!base_is(Py_TPFLAGS_HEAPTYPE)) Py_VISIT(Py_TYPE(self));
    memo *m = *memo_of(self);
    for (int k = 0; m && k < COLLECTIVES; k++)
        for (int i = 0; m->known[k] && i < KNOWN; i++) Py_VISIT(m->known[k][i].keep);
    return m ? objects_visit(m->objects, visit, arg) : 0;
}

static int clear(PyObject *self) {
    if (base_is(Py_TPFLAGS_HAVE_GC)) {
        inquiry of_base = (inquiry)PyType_GetSlot(base, Py_tp_clear);
        if (of_base) of_base(self);
    }
    memo_end(self);
    return 0;
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (!base_is(Py_TPFLAGS_HAVE_GC)) PyObject_GC_UnTrack(self);
    memo_end(self);
    ((destructor)PyType_GetSlot(base, Py_tp_dealloc))(self);
    if (!base_is(Py_TPFLAGS_HEAPTYPE)) Py_DECREF(type);
}

#define CALL(name, function, takes, doc)                                                                             \
    {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS,                                     \
     name "($self, /, " takes ")\n--\n\n" doc}
#define NONBLOCKING(name, function, takes)                                                                           \
    CALL(name, function, takes "*, algorithm=None", "Start the call, and return the request that waits for it: MPI_" name ".")
static PyMethodDef type_methods[] = {
    CALL("Allgather", allgather, "sendbuf, recvbuf, *, algorithm=None",
         "Gather a block of every rank on all ranks: MPI_Allgather."),
    CALL("Alltoall", alltoall, "sendbuf, recvbuf, *, algorithm=None",
         "Send a block from every rank to every rank: MPI_Alltoall."),
    CALL("Allreduce", allreduce, "sendbuf, recvbuf, op=..., *, algorithm=None",
         "Reduce the vectors of all ranks, with the result on all ranks: MPI_Allreduce. op: MPI.SUM unless given."),
    CALL("Reduce_scatter_block", reduce_scatter_block, "sendbuf, recvbuf, op=..., *, algorithm=None",
         "Reduce the vectors of all ranks, with an equal block of the result on each: MPI_Reduce_scatter_block. "
         "op: MPI.SUM unless given."),
    CALL("Reduce_scatter", reduce_scatter, "sendbuf, recvbuf, recvcounts=None, op=..., *, algorithm=None",
         "Reduce the vectors of all ranks, with a block of the result on each: MPI_Reduce_scatter. recvcounts: elements "
         "of every rank's block, gathered unless given. op: MPI.SUM unless given."),
    CALL("Bcast", bcast, "buf, root=0, *, algorithm=None",
         "Send the root's vector to all ranks: MPI_Bcast."),
    CALL("Reduce", reduce, "sendbuf, recvbuf, op=..., root=0, *, algorithm=None",
         "Reduce the vectors of all ranks, with the result on the root: MPI_Reduce. op: MPI.SUM unless given."),
    CALL("Gather", gather, "sendbuf, recvbuf, root=0, *, algorithm=None",
         "Gather a block of every rank on the root: MPI_Gather."),
    CALL("Scatter", scatter, "sendbuf, recvbuf, root=0, *, algorithm=None",
         "Send a block of the root's vector to each rank: MPI_Scatter."),
    CALL("Barrier", barrier_of, "*, algorithm=None",
         "Wait until all ranks have come: MPI_Barrier."),
    NONBLOCKING("Iallgather", iallgather, "sendbuf, recvbuf, "),
    NONBLOCKING("Ialltoall", ialltoall, "sendbuf, recvbuf, "),
    NONBLOCKING("Iallreduce", iallreduce, "sendbuf, recvbuf, op=..., "),
    NONBLOCKING("Ireduce_scatter", ireduce_scatter, "sendbuf, recvbuf, recvcounts=None, op=..., "),
    NONBLOCKING("Ireduce_scatter_block", ireduce_scatter_block, "sendbuf, recvbuf, op=..., "),
    NONBLOCKING("Ibcast", ibcast, "buf, root=0, "),
    NONBLOCKING("Ireduce", ireduce, "sendbuf, recvbuf, op=..., root=0, "),
    NONBLOCKING("Igather", igather, "sendbuf, recvbuf, root=0, "),
    NONBLOCKING("Iscatter", iscatter, "sendbuf, recvbuf, root=0, "),
    NONBLOCKING("Iscan", iscan, "sendbuf, recvbuf, op=..., "),
    NONBLOCKING("Iexscan", iexscan, "sendbuf, recvbuf, op=..., "),
    NONBLOCKING("Ibarrier", ibarrier, ""),
    {"_leave_started", leave_started, METH_O, "Leave non-blocking calls of a collective to the MPI library from now on."},
    CALL("allreduce", allreduce_object, "sendobj, op=MPI.SUM", "Reduce objects of all ranks, with the result on all."),
    CALL("allgather", allgather_object, "sendobj", "Gather an object of every rank on all ranks."),
    CALL("bcast", bcast_object, "obj, root=0", "Send the root's object to all ranks."),
    CALL("gather", gather_object, "sendobj, root=0", "Gather an object of every rank on the root."),
    CALL("reduce", reduce_object, "sendobj, op=MPI.SUM, root=0", "Reduce objects of all ranks, with the result on the root."),
    {"barrier", barrier_as_object, METH_NOARGS, "barrier()\n\nWait until all ranks have come."},
    {"_open_objects", open_objects, METH_NOARGS, "Make calls on objects in C from now on; False if that cannot be, or was so."},
    {"_open_memo", open_memo, METH_VARARGS, "Remember calls from now on; takes this process's rank and the size."},
    {"_close_memo", close_memo, METH_NOARGS, "Forget all calls, and remember none from now on."},
    {"_memo_counts", counts, METH_NOARGS, "Return the numbers of calls by what served them; None without a memo."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "Intracommunicator that remembers calls: those it knows are made without Python."},
    {Py_tp_methods, type_methods},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "topocomm.comm._recogniser.Recogniser",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = type_slots,
};

PyObject *of_mpi4py(const char *name) {
    PyObject *mpi = PyImport_ImportModule("mpi4py.MPI");
    PyObject *found = mpi ? PyObject_GetAttrString(mpi, name) : NULL;
    Py_XDECREF(mpi);
    return found;
}

PyObject *type_below(PyObject *class, PyType_Spec *spec, size_t more, size_t *at) {
    PyObject *bytes = PyObject_GetAttrString(class, "__basicsize__");
    if (bytes == NULL) return NULL;
    *at = (PyLong_AsSize_t(bytes) + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
    Py_DECREF(bytes);
    spec->basicsize = (int)(*at + more);
    PyObject *bases = PyTuple_Pack(1, class);
    PyObject *type = bases ? PyType_FromSpecWithBases(spec, bases) : NULL;
    Py_XDECREF(bases);
    return type;
}

static PyObject *make_type(void) {
    PyObject *comm = of_mpi4py("Intracomm");
    base = (PyTypeObject *)comm; /* kept for as long as the process lives */
    return comm ? type_below(comm, &type_spec, sizeof(memo *), &memo_at) : NULL;
}

/* --- the module ----------------------------------------------------------------------------------------------- */
static PyMethodDef functions[] = {
    {"know", facts_take, METH_VARARGS, "Take the facts about mpi4py, NumPy and the MPI library of this process."},
    {"know_objects", values_take, METH_VARARGS, "Take what must be known of pickling in this process."},
    {"know_requests", requests_know, METH_VARARGS, "Take the place, width and null of the handle in mpi4py's requests."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "topocomm.comm._recogniser", "Calls that are answered in C.", -1, functions, NULL, NULL,
    NULL,                  NULL,
};

PyMODINIT_FUNC PyInit__recogniser(void) {
    for (int k = 0; k < COLLECTIVES; k++)
        if ((method_names[k] = PyUnicode_InternFromString(methods[k])) == NULL) return NULL;
    for (int k = 0; k < OBJECT_CALLS; k++)
        if ((object_names[k] = PyUnicode_InternFromString(object_methods[k])) == NULL) return NULL;
    if (starting_open() < 0) return NULL;
    PyObject *type = make_type(), *request = type ? requests_type() : NULL;
    PyObject *module = request ? PyModule_Create(&definition) : NULL;
    if (module && (PyModule_AddObjectRef(module, "Recogniser", type) < 0 ||
                   PyModule_AddObjectRef(module, "Driven", request) < 0))
        Py_CLEAR(module);
    Py_XDECREF(type);
    Py_XDECREF(request);
    return module;
}
