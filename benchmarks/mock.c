/* An upstream that is never the bottleneck: one thread, one epoll loop, prepared replies.
 *
 * It speaks just enough HTTP/1.1 to serve OpenAI's chat completions over kept-alive connections. What it does is chosen by
 * the request itself, so that it can stand behind any gateway:
 *   "stream": true absent        the whole prepared reply
 *   model mock-c<N>-i<U>[-d<D>]  a stream of N content chunks, one each U microseconds, the first after D microseconds.
 *                                U = 0 sends as fast as the reader takes them, one write per chunk, streams taking turns.
 * Chunks carry their time of departure ("@" and nineteen digits of CLOCK_MONOTONIC nanoseconds), from which the load
 * generator, on the same machine, tells how long a chunk was on its way; it also keeps any two of them from being equal,
 * which LiteLLM takes for a model that repeats itself. Streams ask not to be buffered (x-accel-buffering), as real ones do. GET /stats counts what happened.
 *
 * Usage: mock [port]     0 or nothing takes a free port; "listening <port>" is printed when it is ready.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST (4u << 20)
#define PER_TURN 1024

typedef struct Conn {
    struct Conn *next_dead;
    int fd, streaming, blocked, want_usage, role_sent, dead;
    long heap_slot, flat_slot;            /* -1 when in neither */
    long chunks_left, chunks_total;
    int64_t interval_ns, due_ns;
    char *in, *out;
    size_t in_len, in_cap, out_len, out_cap;
} Conn;

static const char WHOLE_BODY[] =
    "{\"id\":\"chatcmpl-mock0000000000000000\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"mock\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The gateway relays this short answer.\","
    "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,"
    "\"completion_tokens\":8,\"total_tokens\":20}}";
static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";
#define EVENT_HEAD "data: {\"id\":\"chatcmpl-mock0000000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mock\","
#define EVENT(delta, finish) EVENT_HEAD "\"choices\":[{\"index\":0,\"delta\":" delta ",\"logprobs\":null,\"finish_reason\":" finish "}]}\n\n"
static const char ROLE[] = EVENT("{\"role\":\"assistant\",\"content\":\"\"}", "null");
static const char TOKEN[] = EVENT("{\"content\":\"@0000000000000000000 tok\"}", "null");
static const char FINISH[] = EVENT("{}", "\"stop\"");

static char whole_reply[2048], token_frame[1024];
static size_t whole_len, token_len, stamp_at;
static int epoll_fd;
static Conn **heap, **flat, *graveyard;
static long heap_len, heap_cap, flat_len, flat_cap, open_streams;
static unsigned long requests, streams_started, streams_finished, streams_aborted;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the streams that wait for their time: a binary heap by due_ns ---- */

static void heap_put(long slot, Conn *c) { heap[slot] = c; c->heap_slot = slot; }

static void heap_sift(long slot) {
    Conn *c = heap[slot];
    while (slot > 0 && heap[(slot - 1) / 2]->due_ns > c->due_ns) { heap_put(slot, heap[(slot - 1) / 2]); slot = (slot - 1) / 2; }
    for (;;) {
        long child = 2 * slot + 1;
        if (child >= heap_len) break;
        if (child + 1 < heap_len && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
        if (heap[child]->due_ns >= c->due_ns) break;
        heap_put(slot, heap[child]);
        slot = child;
    }
    heap_put(slot, c);
}

static void heap_add(Conn *c) {
    if (heap_len == heap_cap) heap = realloc(heap, (heap_cap = heap_cap ? heap_cap * 2 : 256) * sizeof *heap);
    heap_put(heap_len++, c);
    heap_sift(heap_len - 1);
}

static void heap_drop(Conn *c) {
    long slot = c->heap_slot;
    if (slot < 0) return;
    c->heap_slot = -1;
    Conn *last = heap[--heap_len];
    if (last == c) return;
    heap_put(slot, last);
    heap_sift(slot);
}

static void flat_add(Conn *c) {
    if (c->flat_slot >= 0) return;
    if (flat_len == flat_cap) flat = realloc(flat, (flat_cap = flat_cap ? flat_cap * 2 : 256) * sizeof *flat);
    c->flat_slot = flat_len;
    flat[flat_len++] = c;
}

static void flat_drop(Conn *c) {
    if (c->flat_slot < 0) return;
    flat[c->flat_slot] = flat[--flat_len];
    flat[c->flat_slot]->flat_slot = c->flat_slot;
    c->flat_slot = -1;
}

/* ---- writing ---- */

static void watch(Conn *c) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (c->blocked ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void hang_up(Conn *c) {
    if (c->dead) return;
    if (c->streaming) { streams_aborted++; open_streams--; }
    heap_drop(c);
    flat_drop(c);
    close(c->fd);
    c->dead = 1;
    c->next_dead = graveyard;             /* freed at the end of the turn: this turn's events may still name it */
    graveyard = c;
}

static void send_bytes(Conn *c, const char *data, size_t len) {
    if (c->dead) return;
    if (!c->out_len) {
        ssize_t sent = send(c->fd, data, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) { hang_up(c); return; }
        if (sent == (ssize_t)len) return;
        if (sent > 0) { data += sent; len -= sent; }
    }
    if (c->out_len + len > c->out_cap) c->out = realloc(c->out, c->out_cap = (c->out_len + len) * 2);
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    if (!c->blocked) { c->blocked = 1; flat_drop(c); watch(c); }
}

static void flush(Conn *c) {
    ssize_t sent = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (sent < 0) { if (errno != EAGAIN) hang_up(c); return; }
    memmove(c->out, c->out + sent, c->out_len -= sent);
    if (c->out_len) return;
    c->blocked = 0;
    watch(c);
    if (c->streaming && !c->interval_ns) flat_add(c);
}

static size_t frame(char *to, const char *event, size_t len) { return sprintf(to, "%zx\r\n%.*s\r\n", len, (int)len, event); }

static void send_next_chunk(Conn *c, int64_t now) {
    if (c->chunks_left-- > 0) {
        char stamped[sizeof token_frame];
        memcpy(stamped, token_frame, token_len);
        for (int digit = 18; digit >= 0; digit--, now /= 10) stamped[stamp_at + digit] = '0' + now % 10;
        send_bytes(c, stamped, token_len);
        return;
    }
    char tail[2048], usage[512];
    size_t len = frame(tail, FINISH, sizeof FINISH - 1);
    if (c->want_usage) {
        size_t n = sprintf(usage, EVENT_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
                           c->chunks_total, c->chunks_total + 12);
        len += frame(tail + len, usage, n);
    }
    len += sprintf(tail + len, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    heap_drop(c);
    flat_drop(c);
    c->streaming = 0;
    open_streams--;
    streams_finished++;
    send_bytes(c, tail, len);
}

/* ---- reading ---- */

static long number_after(const char *text, size_t len, const char *mark, long otherwise) {
    const char *at = memmem(text, len, mark, strlen(mark));
    return at ? atol(at + strlen(mark)) : otherwise;
}

static int is_true(const char *body, size_t len, const char *name) {
    const char *at = memmem(body, len, name, strlen(name)), *end = body + len;
    if (!at) return 0;
    for (at += strlen(name); at < end && (*at == ' ' || *at == ':'); at++) {}
    return at < end && *at == 't';
}

static void begin_stream(Conn *c, const char *body, size_t len) {
    const char *model = memmem(body, len, "mock-c", 6);
    size_t name_len = 0;
    if (model) while (model + name_len < body + len && model[name_len] != '"') name_len++;
    c->chunks_total = c->chunks_left = model ? number_after(model, name_len, "mock-c", 16) : 16;
    c->interval_ns = model ? number_after(model, name_len, "-i", 0) * 1000 : 0;
    int64_t first_ns = model ? number_after(model, name_len, "-d", 0) * 1000 : 0;
    c->want_usage = is_true(body, len, "\"include_usage\"");
    c->streaming = 1;
    streams_started++;
    open_streams++;
    char head[1024];
    size_t n = sizeof STREAM_HEAD - 1;
    memcpy(head, STREAM_HEAD, n);
    n += frame(head + n, ROLE, sizeof ROLE - 1);
    send_bytes(c, head, n);
    if (c->dead) return;
    if (c->interval_ns || first_ns) {
        c->due_ns = now_ns() + first_ns;
        if (!c->interval_ns) c->interval_ns = 1;
        heap_add(c);
    } else if (!c->blocked) flat_add(c);
}

static void answer(Conn *c, const char *head, const char *body, size_t len) {
    if (!strncmp(head, "GET /stats", 10) || !strncmp(head, "GET ", 4)) {
        char text[512], reply[1024];
        size_t n = strncmp(head, "GET /stats", 10)
            ? (size_t)sprintf(text, "{\"object\":\"list\",\"data\":[{\"id\":\"mock-whole\",\"object\":\"model\",\"created\":1760000000,\"owned_by\":\"mock\"}]}")
            : (size_t)sprintf(text, "{\"requests\":%lu,\"streams_started\":%lu,\"streams_finished\":%lu,\"streams_aborted\":%lu,\"open_streams\":%ld}",
                              requests, streams_started, streams_finished, streams_aborted, open_streams);
        send_bytes(c, reply, sprintf(reply, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", n, text));
        return;
    }
    requests++;
    if (is_true(body, len, "\"stream\"")) begin_stream(c, body, len);
    else send_bytes(c, whole_reply, whole_len);
}

static void serve(Conn *c) {
    while (c->in_len && !c->streaming && !c->dead) {
        char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!end) return;
        size_t head_len = end - c->in + 4, body_len = 0;
        char *length = NULL;
        *end = 0;
        for (char *line = strstr(c->in, "\r\n"); line && !length; line = strstr(line + 2, "\r\n"))
            if (!strncasecmp(line + 2, "content-length:", 15)) length = line + 17;
        if (length) body_len = strtoul(length, NULL, 10);
        *end = '\r';
        if (body_len > MAX_REQUEST) { hang_up(c); return; }
        if (c->in_len < head_len + body_len) return;
        answer(c, c->in, c->in + head_len, body_len);
        memmove(c->in, c->in + head_len + body_len, c->in_len -= head_len + body_len);
    }
}

static void take_in(Conn *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 8192) c->in = realloc(c->in, c->in_cap = c->in_cap ? c->in_cap * 2 : 16384);
        ssize_t got = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len - 1, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) { hang_up(c); return; }
        if (got < 0) return;
        c->in_len += got;
        c->in[c->in_len] = 0;
        if (c->in_len > MAX_REQUEST) { hang_up(c); return; }
        serve(c);
        if (c->dead || (size_t)got < 4096) return;
    }
}

static void welcome(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->heap_slot = c->flat_slot = -1;
        struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    whole_len = sprintf(whole_reply, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", sizeof WHOLE_BODY - 1, WHOLE_BODY);
    token_len = frame(token_frame, TOKEN, sizeof TOKEN - 1);
    stamp_at = strchr(token_frame, '@') - token_frame + 1;

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) { perror("mock"); return 1; }
    getsockname(listener, (struct sockaddr *)&address, &size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[512];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);

    for (;;) {
        int64_t wait = heap_len ? heap[0]->due_ns - now_ns() : -1;
        if (heap_len && wait < 0) wait = 0;
        if (flat_len) wait = 0;
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        int n = epoll_pwait2(epoll_fd, events, 512, wait < 0 ? NULL : &timeout, NULL);
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (!c) { welcome(listener); continue; }
            if (c->dead) continue;
            if (events[i].events & EPOLLOUT) flush(c);
            if (!c->dead && (events[i].events & ~EPOLLOUT)) take_in(c);
            if (!c->dead && c->in_len && !c->streaming) serve(c);
        }
        int64_t now = now_ns();
        for (int turn = 0; turn < PER_TURN && heap_len && heap[0]->due_ns <= now; turn++) {
            Conn *c = heap[0];
            c->due_ns += c->interval_ns;
            heap_sift(0);
            send_next_chunk(c, now_ns());
        }
        for (long i = flat_len - 1; i >= 0; i--) if (i < flat_len) send_next_chunk(flat[i], now);
        while (graveyard) {
            Conn *c = graveyard;
            graveyard = c->next_dead;
            free(c->in);
            free(c->out);
            free(c);
        }
    }
}
