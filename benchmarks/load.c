/* A load generator for OpenAI-compatible servers: one thread, one epoll loop, and the clock of the server under load.
 *
 * Closed loop (each connection sends its next request when it has the answer) or open loop (--rate: requests are due at fixed
 * times, and latency counts from when a request was due, so that a slow server cannot hide its queue). With --stream the
 * answer is read as server-sent events: a stream is whole when it ended with "data: [DONE]" and a proper last chunk, else it
 * was cut. With --hold the connections each open one stream; "held" is printed when all have had their first token, and they
 * are read until standard input ends.
 *
 * --watch PID[,PID...] reads the CPU time of those processes at both ends of the measured window, which begins after
 * --warmup seconds. One JSON object is printed at the end; times are microseconds unless named otherwise.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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

#define HEAD_MAX 8192
#define LINE_MAX_ 4096
#define PIDS_MAX 64

enum Part { HEAD, WHOLE, UNTIL_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

typedef struct {
    int fd, busy, connected, status, must_close, done_seen, error_seen, first_token_seen, body_seen, in_trailer_line;
    enum Part part;
    size_t sent, head_len, line_len, size_digits;
    uint64_t left;
    int64_t started_ns, completion_tokens;
    char head[HEAD_MAX];
    char *line;
} Conn;

typedef struct { float *values; size_t len, cap; } Samples;

static Conn *conns;
static int epoll_fd, streaming, holding, connections = 32;
static char *request;
static size_t request_len;
static struct sockaddr_in server;
static double seconds = 3, warmup = 0.5, rate = 0;
static long wanted = 0;
static int64_t window_ns, end_ns, next_due_ns, now;
static Samples latency, first_token, relay;
static unsigned long finished, failed, cut, chunks, streams, tokens, all_finished, first_tokens_held;
static char complaint[512];
static int64_t *backlog;
static size_t backlog_len, backlog_at;
static int *idle, idle_len;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double cpu_seconds(pid_t pid) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) return -1;
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void keep(Samples *s, int64_t ns) {
    if (now < window_ns) return;
    if (s->len == s->cap) s->values = realloc(s->values, (s->cap = s->cap ? s->cap * 2 : 65536) * sizeof(float));
    s->values[s->len++] = ns / 1000.0f;
}

static void complain(const char *why, const Conn *c) {
    if (*complaint) return;
    int n = snprintf(complaint, 160, "%s (status %d): ", why, c->status);
    for (size_t i = 0; i < c->line_len && n < 480; i++) {
        char ch = c->line[i];
        complaint[n++] = ch == '"' || ch == '\\' || (unsigned char)ch < 32 ? '\'' : ch;
    }
    complaint[n] = 0;
}

/* ---- connections ---- */

static void dial(Conn *c) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) { perror("load: socket"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connect(c->fd, (struct sockaddr *)&server, sizeof server);
    c->connected = 0;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void push_out(Conn *c) {
    while (c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n < 0) break;
        c->sent += n;
    }
    struct epoll_event e = {.events = EPOLLIN | (c->sent < request_len ? EPOLLOUT : 0), .data.ptr = c};
    if (c->sent < request_len || !c->connected) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
    if (c->sent == request_len) c->connected = 1;
}

static void begin(Conn *c, int64_t due) {
    c->busy = 1;
    c->part = HEAD;
    c->sent = c->head_len = c->line_len = 0;
    c->status = c->must_close = c->done_seen = c->error_seen = c->first_token_seen = c->body_seen = 0;
    c->completion_tokens = 0;
    c->started_ns = due;
    if (c->fd < 0) dial(c);
    else push_out(c);
}

static void next_request(Conn *c) {
    c->busy = 0;
    if (holding) return;
    if (rate > 0) {
        if (backlog_at < backlog_len) begin(c, backlog[backlog_at++]);
        else idle[idle_len++] = c - conns;
    } else begin(c, now);
}

static void redial(Conn *c) {
    close(c->fd);
    c->fd = -1;
}

static void answered(Conn *c, int intact) {
    int bad_status = c->status != 200, is_cut = streaming && !bad_status && (!intact || !c->done_seen || c->error_seen);
    all_finished++;
    if (now >= window_ns) {
        finished++;
        if (is_cut) cut++;
        else if (bad_status || !intact) failed++;
        else {
            keep(&latency, now - c->started_ns);
            tokens += c->completion_tokens;
            streams += streaming;
        }
    }
    if (is_cut) complain(c->error_seen ? "error event in a stream" : "cut stream", c);
    else if (bad_status || !intact) complain("bad answer", c);
    if (c->must_close || !intact) redial(c);
    next_request(c);
}

/* ---- events ---- */

static void read_line(Conn *c) {
    char *line = c->line;
    size_t len = c->line_len;
    if (len >= 6 && !memcmp(line, "event:", 6) && memmem(line, len, "error", 5)) c->error_seen = 1;
    if (len < 6 || memcmp(line, "data:", 5)) return;
    char *data = line + 5, *end = line + len;
    while (data < end && *data == ' ') data++;
    if (end - data >= 6 && !memcmp(data, "[DONE]", 6)) { c->done_seen = 1; return; }
    if (end - data >= 8 && !memcmp(data, "{\"error\"", 8)) { c->error_seen = 1; return; }
    char *content = memmem(data, end - data, "\"content\":", 10);
    if (content) {
        for (content += 10; content < end && *content == ' '; content++) {}
        if (end - content > 2 && content[0] == '"' && content[1] != '"') {
            if (now >= window_ns) chunks++;
            if (!c->first_token_seen) {
                c->first_token_seen = 1;
                first_tokens_held++;
                keep(&first_token, now - c->started_ns);
            }
            if (content[1] == '@' && end - content > 21) {
                int64_t left = 0;
                for (int i = 2; i < 21; i++) left = left * 10 + (content[i] - '0');
                if (left) keep(&relay, now - left);
            }
        }
    }
    char *usage = memmem(data, end - data, "\"completion_tokens\":", 20);
    if (usage) c->completion_tokens = atol(usage + 20);
}

static void take_body(Conn *c, const char *data, size_t len) {
    c->body_seen = 1;
    if (!streaming || c->status != 200) {
        size_t room = LINE_MAX_ - 1 - c->line_len, n = len < room ? len : room;
        if (c->status != 200) { memcpy(c->line + c->line_len, data, n); c->line_len += n; }
        return;
    }
    while (len) {
        const char *newline = memchr(data, '\n', len);
        size_t n = newline ? (size_t)(newline - data) : len, room = LINE_MAX_ - 1 - c->line_len;
        memcpy(c->line + c->line_len, data, n < room ? n : room);
        c->line_len += n < room ? n : room;
        c->line[c->line_len] = 0;
        if (!newline) return;
        if (c->line_len && !(c->line_len == 1 && c->line[0] == '\r')) read_line(c);
        if (!c->error_seen) c->line_len = 0;
        data += n + 1;
        len -= n + 1;
    }
}

static size_t take_head(Conn *c, const char *data, size_t len) {
    size_t before = c->head_len, room = HEAD_MAX - 1 - before, n = len < room ? len : room;
    memcpy(c->head + before, data, n);
    c->head_len += n;
    c->head[c->head_len] = 0;
    char *end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
    if (!end) return n;
    size_t used = end + 4 - c->head - before;
    c->status = atoi(c->head + 9);
    c->part = UNTIL_CLOSE;
    for (char *line = strstr(c->head, "\r\n") + 2; line < end; line = strstr(line, "\r\n") + 2) {
        if (!strncasecmp(line, "content-length:", 15)) { c->left = strtoull(line + 15, NULL, 10); c->part = WHOLE; }
        if (!strncasecmp(line, "transfer-encoding:", 18) && strcasestr(line, "chunked")) { c->part = CHUNK_SIZE; c->left = c->size_digits = 0; }
        if (!strncasecmp(line, "connection: close", 17)) c->must_close = 1;
    }
    return used;
}

/* One response's worth of bytes; whatever follows is left alone (we never pipeline). */
static void take_bytes(Conn *c, const char *data, size_t len) {
    while (len && c->busy) {
        size_t n = 0;
        switch (c->part) {
        case HEAD:
            n = take_head(c, data, len);
            if (c->part == WHOLE && !c->left) { answered(c, 1); return; }
            break;
        case UNTIL_CLOSE: n = len; take_body(c, data, n); break;
        case WHOLE:
            n = len < c->left ? len : c->left;
            take_body(c, data, n);
            if (!(c->left -= n)) { answered(c, 1); return; }
            break;
        case CHUNK_SIZE:
            n = 1;
            if (*data == '\n') {
                if (c->left) c->part = CHUNK_DATA;
                else { c->part = TRAILER; c->in_trailer_line = 0; }
            } else if (*data == ';') c->size_digits = 99;
            else if (*data != '\r' && c->size_digits++ < 16) {
                int digit = *data <= '9' ? *data - '0' : (*data | 32) - 'a' + 10;
                c->left = c->left * 16 + digit;
            }
            break;
        case CHUNK_DATA:
            n = len < c->left ? len : c->left;
            take_body(c, data, n);
            if (!(c->left -= n)) c->part = CHUNK_END;
            break;
        case CHUNK_END:
            n = 1;
            if (*data == '\n') { c->part = CHUNK_SIZE; c->left = c->size_digits = 0; }
            break;
        case TRAILER:
            n = 1;
            if (*data == '\n') {
                if (!c->in_trailer_line) { answered(c, 1); return; }
                c->in_trailer_line = 0;
            } else if (*data != '\r') c->in_trailer_line = 1;
            break;
        }
        data += n;
        len -= n;
    }
}

static void take_in(Conn *c) {
    static char buffer[262144];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) { take_bytes(c, buffer, got); return; }
    if (!c->busy) { redial(c); return; }
    if (c->part == UNTIL_CLOSE) c->must_close = 1;
    answered(c, got == 0 && c->part == UNTIL_CLOSE);
}

/* ---- the run ---- */

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void print_samples(const char *name, Samples *s) {
    qsort(s->values, s->len, sizeof(float), by_value);
    double sum = 0;
    for (size_t i = 0; i < s->len; i++) sum += s->values[i];
#define AT(q) (s->len ? s->values[(size_t)((s->len - 1) * (q))] : 0.0f)
    printf("\"%s\":{\"count\":%zu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f},",
           name, s->len, s->len ? sum / s->len : 0, AT(0.5), AT(0.9), AT(0.99), AT(1.0));
}

static char *read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) { perror(path); exit(1); }
    char *text = calloc(1, 8 << 20);
    size_t n = fread(text, 1, (8 << 20) - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'P'}, {"body", 1, 0, 'b'}, {"auth", 1, 0, 'a'}, {"connections", 1, 0, 'c'},
        {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'}, {"rate", 1, 0, 'r'}, {"requests", 1, 0, 'n'}, {"stream", 0, 0, 'S'},
        {"hold", 0, 0, 'H'}, {"watch", 1, 0, 'W'}, {0}};
    const char *path = "/v1/chat/completions", *auth = "", *body = "{}";
    pid_t pids[PIDS_MAX];
    double before[PIDS_MAX], own_before = 0;
    int pid_count = 0, option, port = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'P': path = optarg; break;
        case 'b': body = read_file(optarg); break;
        case 'a': auth = optarg; break;
        case 'c': connections = atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'n': wanted = atol(optarg); break;
        case 'S': streaming = 1; break;
        case 'H': holding = streaming = 1; break;
        case 'W': for (char *t = strtok(optarg, ","); t && pid_count < PIDS_MAX; t = strtok(NULL, ",")) pids[pid_count++] = atoi(t); break;
        default: return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    request = malloc(strlen(body) + 4096);
    request_len = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: %s\r\n"
                                   "User-Agent: bench\r\nAuthorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n%s",
                          path, port, streaming ? "text/event-stream" : "application/json", auth, strlen(body), body);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(connections, sizeof *conns);
    idle = calloc(connections, sizeof *idle);
    if (rate > 0) backlog = calloc((size_t)(rate * (seconds + warmup) + 16), sizeof *backlog);
    struct epoll_event events[512];
    if (holding) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &e);
    }

    now = now_ns();
    int64_t begun_ns = now, opened_ns = now;
    window_ns = now + warmup * 1e9;
    end_ns = window_ns + seconds * 1e9;
    next_due_ns = now;
    int in_window = 0, opened = 0, said_held = 0, over = 0;
    for (int i = 0; i < connections; i++) {
        conns[i].fd = -1;
        conns[i].line = malloc(LINE_MAX_);
        if (rate > 0) idle[idle_len++] = i;
    }
    while (!over) {
        now = now_ns();
        if (!in_window && now >= window_ns) {
            in_window = 1;
            window_ns = now;
            if (rate <= 0) end_ns = now + seconds * 1e9;
            for (int i = 0; i < pid_count; i++) before[i] = cpu_seconds(pids[i]);
            own_before = cpu_seconds(getpid());
        }
        /* Connections open a thousand a second at most when held, so that the opening is not the test. */
        while (rate <= 0 && opened < connections && (!holding || opened_ns <= now)) {
            begin(&conns[opened++], now);
            opened_ns = now + 1000000;
        }
        /* What was due before the end counts as due, also when nobody looked at the clock until after it. */
        over |= now >= end_ns || (wanted && all_finished >= (unsigned long)wanted);
        while (rate > 0 && next_due_ns <= now && next_due_ns < end_ns) {
            if (idle_len && !over) begin(&conns[idle[--idle_len]], next_due_ns);
            else if (backlog_len < (size_t)(rate * (seconds + warmup) + 16)) backlog[backlog_len++] = next_due_ns;
            next_due_ns += 1e9 / rate;
        }
        if (over) break;
        int64_t wake = in_window ? end_ns : window_ns;
        if (rate > 0 && next_due_ns < wake) wake = next_due_ns;
        if (holding && opened < connections && opened_ns < wake) wake = opened_ns;
        int64_t wait = wake > now ? wake - now : 0;
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        int n = epoll_pwait2(epoll_fd, events, 512, &timeout, NULL);
        now = now_ns();
        for (int i = 0; i < n; i++) {
            Conn *c = events[i].data.ptr;
            if (!c) {
                char rest[256];
                if (read(0, rest, sizeof rest) <= 0) over = 1;
                continue;
            }
            if (c->fd < 0) continue;
            if (events[i].events & EPOLLOUT) {
                int error = 0;
                socklen_t size = sizeof error;
                getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error) {
                    c->status = 0;
                    failed++;
                    complain(strerror(error), c);
                    redial(c);
                    if (failed > 1000) { over = 1; break; }
                    next_request(c);
                    continue;
                }
                push_out(c);
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_in(c);
        }
        if (holding && !said_held && first_tokens_held + failed + cut >= (unsigned long)connections) {
            said_held = 1;
            printf("held\n");
            fflush(stdout);
        }
    }
    now = now_ns();
    if (!in_window) window_ns = begun_ns;
    double span = (now - window_ns) / 1e9;
    int open_now = 0;
    for (int i = 0; i < connections; i++) open_now += conns[i].busy;
    printf("{\"seconds\":%.6f,\"finished\":%lu,\"failed\":%lu,\"cut\":%lu,\"streams\":%lu,\"open\":%d,\"chunks\":%lu,\"tokens\":%lu,\"unsent\":%zu,",
           span, finished, failed, cut, streams, open_now, chunks, tokens, backlog_len - backlog_at);
    print_samples("latency", &latency);
    print_samples("first_token", &first_token);
    print_samples("relay", &relay);
    printf("\"cpu\":{");
    for (int i = 0; i < pid_count; i++) printf("%s\"%d\":%.6f", i ? "," : "", pids[i], in_window ? cpu_seconds(pids[i]) - before[i] : 0);
    printf("},\"own_cpu\":%.6f,\"complaint\":\"%s\"}\n", cpu_seconds(getpid()) - own_before, complaint);
    return 0;
}
