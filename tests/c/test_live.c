/* Who counts as dead, over libfabric; arguments: provider, interface. A probe that is refused or answered by nobody does
 * not, an established one that ends does, also if nobody has looked at it before; a process number is trusted only where
 * processes are counted alike. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "internal.h"

static tc_options options;
static tc_context *group[2];

/* Two contexts; rank 0 is told that rank 1 listens at `port` of `host`, unless that is 0, and has process number `pid`. */
static void open_two(uint32_t size, const char *host, uint16_t port, int32_t pid) {
    unsigned char bytes[2][TC_ADDRESS_BYTES];
    size_t length;
    options.size = size;
    for (uint32_t r = 0; r < 2; r++) {
        options.rank = r;
        OK(tc_context_open(&options, &group[r]));
        OK(tc_context_address(group[r], bytes[r], sizeof bytes[r], &length));
    }
    wire_address other;
    struct sockaddr_in to;
    memcpy(&other, bytes[1], sizeof other);
    memcpy(&to, other.live, sizeof to);
    if (port) to.sin_port = htons(port);
    if (port) EXPECT(inet_pton(AF_INET, host, &to.sin_addr) == 1);
    memcpy(other.live, &to, sizeof to);
    other.pid = pid ? pid : other.pid;
    OK(tc_context_connect(group[1], 0, bytes[0], length));
    OK(tc_context_connect(group[0], 1, &other, sizeof other));
}

static void close_two(void) {
    for (int r = 0; r < 2; r++) {
        if (group[r]) OK(tc_context_close(group[r]));
        group[r] = NULL;
    }
}

static int becomes(int wanted, double seconds) {
    int status = tc_peer_alive(group[0], 1);
    for (double end = now() + seconds; status != wanted && now() < end; usleep(10000)) status = tc_peer_alive(group[0], 1);
    return status;
}

static uint16_t free_port(void) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && getsockname(fd, (struct sockaddr *)&any, &length) == 0);
    close(fd);
    return ntohs(any.sin_port);
}

static void not_there(void) {
    open_two(2, "127.0.0.1", free_port(), 0);
    EXPECT(becomes(TC_ERR_PEER_LOST, 0.2) == TC_OK);
    EXPECT(group[0]->peers[1].live < 0 && !group[0]->peers[1].met);
    close_two();
    open_two(2, "198.51.100.1", 9, 0); /* an address of nobody */
    EXPECT(becomes(TC_ERR_PEER_LOST, 0.2) == TC_OK);
    close_two();
    open_two(2, NULL, 0, 0x3ffffff0); /* no such process here: it may be another's counting */
    EXPECT(becomes(TC_ERR_PEER_LOST, 0.2) == TC_OK);
    close_two();
}

/* In a small job the peers are dialled when they are connected, in a large one with the first block, on both sides. */
static void gone(uint32_t size) {
    tc_memory *memory;
    tc_signal *signal;
    tc_block *block;
    for (int side = 0; side < 2; side++) {
        open_two(size, NULL, 0, 0);
        EXPECT((group[0]->peers[1].live >= 0) == (size <= 64));
        if (size > 64) {
            tc_context *owner = group[side], *holder = group[1 - side];
            OK(tc_memory_allocate(owner, 64, &memory));
            OK(tc_signal_create(owner, TC_COUNTED, &signal));
            (void)give(memory, plain(0, 8), signal, holder, 1 - (uint32_t)side, 1, &block);
        }
        EXPECT(group[0]->peers[1].live >= 0);
        OK(tc_context_close(group[1]));
        group[1] = NULL;
        EXPECT(becomes(TC_ERR_PEER_LOST, 1) == TC_ERR_PEER_LOST);
        EXPECT(tc_peer_alive(group[0], 1) == TC_ERR_PEER_LOST);
        close_two();
    }
}

/* Found on the third attempt: whatever was in the way is not any more. */
static void late_listener(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    uint16_t port = free_port();
    open_two(2, "127.0.0.1", port, 0);
    EXPECT(becomes(TC_ERR_PEER_LOST, 0.1) == TC_OK);
    here.sin_port = htons(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT(bind(fd, (struct sockaddr *)&here, sizeof here) == 0 && listen(fd, 1) == 0);
    for (double end = now() + 3; !group[0]->peers[1].met && now() < end; usleep(10000))
        OK(tc_peer_alive(group[0], 1));
    EXPECT(group[0]->peers[1].met);
    close(fd);
    EXPECT(becomes(TC_ERR_PEER_LOST, 1) == TC_ERR_PEER_LOST);
    close_two();
}

/* More ranks than the kernel keeps connections for: nobody is asked to connect, and the report says so. */
static void too_many(void) {
    tc_context *one;
    unsigned char bytes[TC_ADDRESS_BYTES];
    size_t length;
    wire_address address;
    tc_capability list[3 + TC_MAX_RAILS];
    uint32_t count;
    options.rank = 0;
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "r");
    EXPECT(file && fscanf(file, "%u", &options.size) == 1 && options.size < 1000000);
    fclose(file);
    options.size++;
    OK(tc_context_open(&options, &one));
    OK(tc_context_address(one, bytes, sizeof bytes, &length));
    memcpy(&address, bytes, sizeof address);
    EXPECT(one->listener < 0 && address.live_bytes == 0 && address.rail_bytes[0] > 0);
    OK(tc_capabilities(one, list, 3 + TC_MAX_RAILS, &count));
    EXPECT(strstr(list[1].note, "noticed on the same node only"));
    OK(tc_context_close(one));
}

static void other_counting(void) {
    uint64_t mine = node_identity();
    EXPECT(mine == node_identity());
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWPID)) _exit(2); /* no right to */
        pid_t inner = fork();
        if (inner == 0) _exit(node_identity() == mine);
        int status = 0;
        waitpid(inner, &status, 0);
        _exit(WEXITSTATUS(status));
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    if (WEXITSTATUS(status) == 2) printf("no namespaces here: process numbers not tested\n");
}

int main(int argc, char **argv) {
    EXPECT(argc == 3);
    other_counting();
    options = shm_options();
    options.transports = TC_OFI;
    snprintf(options.provider, sizeof options.provider, "%s", argv[1]);
    snprintf(options.nics, sizeof options.nics, "%s", argv[2]);
    not_there();
    gone(2);
    gone(100);
    late_listener();
    too_many();
    return 0;
}
