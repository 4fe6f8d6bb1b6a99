/* The type below topocomm's requests: a call that is bound to functions in C is started, tested and waited for here; all
 * else by the Python path, which has the same names with an underscore before them.
 *
 * MPI is called without the interpreter's lock: another thread may combine operands in Python while MPI keeps a lock of
 * its own, the watch's among them.
 */
#include <string.h>

#include "memo.h"

#define SLICE 0.01 /* seconds after which Python must handle signals */
#define POLLS 32   /* tests before a wait: most calls of a few ranks are over by then */

typedef int (*start_function)(void *state, const void *send, void *recv, uint32_t held, intptr_t *handle);
typedef int (*test_function)(void *state);
typedef int (*wait_function)(void *state, double seconds);

typedef struct bound { /* what follows mpi4py's own fields; NULL: the Python path */
    void *state;
    start_function start;
    test_function test;
    wait_function wait;
    const void *send;
    void *recv;
} bound;

static size_t bound_at, request_at, request_bytes; /* of an instance: ours; MPI's handle, and its width */
static intptr_t null_request;

static bound *bound_of(PyObject *self) {
    return (bound *)((char *)self + bound_at);
}

static void set_handle(PyObject *self, intptr_t handle) {
    char *at = (char *)self + request_at;
    int32_t narrow = (int32_t)handle;
    if (request_bytes == sizeof narrow)
        memcpy(at, &narrow, sizeof narrow);
    else
        memcpy(at, &handle, sizeof handle);
}

static PyObject *by_python(PyObject *self, const char *name, PyObject *args, PyObject *keywords) {
    PyObject *method = PyObject_GetAttrString(self, name);
    PyObject *out = method ? PyObject_Call(method, args, keywords) : NULL;
    Py_XDECREF(method);
    return out;
}

static bool has_arguments(PyObject *args, PyObject *keywords) {
    return PyTuple_Size(args) || (keywords && PyDict_Size(keywords));
}

static PyObject *start(PyObject *self, PyObject *unused) {
    (void)unused;
    const bound b = *bound_of(self);
    intptr_t handle;
    if (b.state == NULL) return PyObject_CallMethod(self, "_Start", NULL);
    PyThreadState *thread = PyEval_SaveThread();
    int status = b.start(b.state, b.send, b.recv, 0, &handle);
    PyEval_RestoreThread(thread);
    if (status != 0) return PyObject_CallMethod(self, "_Start", NULL);
    set_handle(self, handle);
    Py_RETURN_NONE;
}

/* Return the status of a call after some tests, or after waiting; -1 with an error set if a signal's handler raised one.
 * A handler may let go of the call: 1. */
static int await(PyObject *self, bool *raised) {
    const bound b = *bound_of(self);
    int status = 1;
    for (int k = 0; status == 1; k++) {
        PyThreadState *thread = PyEval_SaveThread();
        for (; k < POLLS && status > 0; k++) status = b.wait(b.state, -1);
        if (status == 1) status = b.wait(b.state, SLICE);
        PyEval_RestoreThread(thread);
        if (status == 1 && PyErr_CheckSignals() < 0) *raised = true;
        if (*raised) return -1;
        if (bound_of(self)->state != b.state) break;
    }
    return status;
}

/* Return what a wait or test that saw the end returns; the Python path raises what went wrong. */
static PyObject *end_of(PyObject *self, int status) {
    if (status < 0) return PyObject_CallMethod(self, "_fail", "i", status);
    set_handle(self, null_request);
    Py_RETURN_TRUE;
}

static PyObject *wait(PyObject *self, PyObject *args, PyObject *keywords) {
    bool raised = false;
    if (bound_of(self)->state == NULL || has_arguments(args, keywords)) return by_python(self, "_Wait", args, keywords);
    int status = await(self, &raised);
    if (raised) return NULL;
    return status > 0 ? by_python(self, "_Wait", args, keywords) : end_of(self, status);
}

static PyObject *test(PyObject *self, PyObject *args, PyObject *keywords) {
    const bound b = *bound_of(self);
    if (b.state == NULL || has_arguments(args, keywords)) return by_python(self, "_Test", args, keywords);
    PyThreadState *thread = PyEval_SaveThread();
    int status = b.test(b.state);
    PyEval_RestoreThread(thread);
    if (status == 1) Py_RETURN_FALSE;
    return status > 0 ? by_python(self, "_Test", args, keywords) : end_of(self, status);
}

static PyObject *bind(PyObject *self, PyObject *args) {
    unsigned long long at[6];
    if (!PyArg_ParseTuple(args, "KKKKKK:_bind", &at[0], &at[1], &at[2], &at[3], &at[4], &at[5])) return NULL;
    *bound_of(self) = (bound){(void *)(uintptr_t)at[0], (start_function)(uintptr_t)at[1],
                              (test_function)(uintptr_t)at[2], (wait_function)(uintptr_t)at[3],
                              (const void *)(uintptr_t)at[4], (void *)(uintptr_t)at[5]};
    Py_RETURN_NONE;
}

static PyObject *give_handle(PyObject *self, PyObject *handle) {
    long long value = PyLong_AsLongLong(handle);
    if (value == -1 && PyErr_Occurred()) return NULL;
    set_handle(self, (intptr_t)value);
    Py_RETURN_NONE;
}

#define WITH_STATUS(name, function, doc)                                                                              \
    {name, (PyCFunction)(void (*)(void))function, METH_VARARGS | METH_KEYWORDS, name "(status=None)\n\n" doc}
static PyMethodDef type_methods[] = {
    {"_start", start, METH_NOARGS, "Start a call that may be bound."},
    WITH_STATUS("Wait", wait, "Wait until the call is complete: MPI_Wait."),
    WITH_STATUS("Test", test, "Tell whether the call is complete: MPI_Test."),
    {"_bind", bind, METH_VARARGS, "Take addresses of a call's state, start, test, wait and both buffers; 0: unbind."},
    {"_give_handle", give_handle, METH_O, "Take MPI's handle, narrow ones with their sign extended."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_doc, "Request of a call that may be bound to functions in C."},
    {Py_tp_methods, type_methods},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "topocomm.comm._recogniser.Driven",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = type_slots,
};

PyObject *requests_know(PyObject *module, PyObject *args) {
    (void)module;
    long long null;
    Py_ssize_t at, bytes;
    if (!PyArg_ParseTuple(args, "nnL:know_requests", &at, &bytes, &null)) return NULL;
    request_at = (size_t)at;
    request_bytes = (size_t)bytes;
    null_request = (intptr_t)null;
    Py_RETURN_NONE;
}

PyObject *requests_type(void) {
    PyObject *request = of_mpi4py("Request");
    PyObject *type = request ? type_below(request, &type_spec, sizeof(bound), &bound_at) : NULL;
    Py_XDECREF(request);
    return type;
}
