/* The ground of the other files: how refusals, failures and ends are noted, and how many blocks an operand has. */
#include <stdarg.h>
#include <stdio.h>

#include "run.h"

int refuse(char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, TC_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return TC_ERR_PROGRAM;
}

int64_t step_blocks(const tc_program *program, const step *s) {
    int64_t blocks = 0;
    for (int32_t i = 0; i < s->runs; i++) blocks += program->ranges[s->first + i].length;
    return blocks;
}

int run_failed(tc_run *run, int status, uint64_t found, uint64_t needed) {
    run->failure.step = run->at.step;
    run->failure.found = found;
    run->failure.needed = needed;
    return status;
}

int message_failed(tc_run *run, const step *s, uint32_t message, int status, int code, uint64_t found) {
    uint32_t turn = message - run->program->message[s - run->program->steps];
    run->failure = (tc_failure){.peer = (uint32_t)s->peer, .message = (uint32_t)s->message + turn, .code = code};
    return run_failed(run, status, found, (uint64_t)run->length[message]);
}
