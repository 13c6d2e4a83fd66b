/* A hand-written event loop with a binary heap: FIFO stations in tandem with Poisson arrivals and exponential service.
 *
 * event_loop STATIONS SERVERS ARRIVAL_RATE SERVICE_RATE REQUESTS SEED
 *
 * Prints the number of requests, the CPU seconds and the mean response time. Every response time is recorded. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct { double time; uint64_t order; int32_t station; int32_t request; } Event;  /* station -1: arrival */
typedef struct { int32_t first, last; int busy; } Station;
typedef struct { double arrival; int32_t next; } Request;

static uint64_t state[4];
static Event *heap;
static size_t events;
static uint64_t orders;

static inline uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

/* xoshiro256+ of Blackman and Vigna. */
static inline double uniform(void) {
    uint64_t result = state[0] + state[3], t = state[1] << 17;
    state[2] ^= state[0]; state[3] ^= state[1]; state[1] ^= state[2]; state[0] ^= state[3];
    state[2] ^= t; state[3] = rotate(state[3], 45);
    return ((result >> 12) + 0.5) * 0x1p-52;
}

static inline double exponential(double mean) { return -mean * log(uniform()); }

static inline int before(const Event *a, const Event *b) {
    return a->time < b->time || (a->time == b->time && a->order < b->order);
}

static void schedule(double time, int32_t station, int32_t request) {
    Event event = {time, orders++, station, request};
    size_t place = events++;
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (!before(&event, &heap[parent])) break;
        heap[place] = heap[parent];
        place = parent;
    }
    heap[place] = event;
}

static Event next_event(void) {
    Event top = heap[0], last = heap[--events];
    size_t place = 0, child;
    while ((child = 2 * place + 1) < events) {
        if (child + 1 < events && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = last;
    return top;
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int stations = atoi(argv[1]), servers = atoi(argv[2]);
    double gap = 1.0 / atof(argv[3]), service = 1.0 / atof(argv[4]);
    int32_t most = atoi(argv[5]);
    uint64_t seed = strtoull(argv[6], NULL, 10);
    for (int i = 0; i < 4; i++) {  /* splitmix64 */
        uint64_t z = (seed += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        state[i] = z ^ (z >> 31);
    }
    clock_t start = clock();
    Station *station = malloc(stations * sizeof *station);
    Request *request = malloc(most * sizeof *request);
    double *response = malloc(most * sizeof *response);
    heap = malloc((stations * servers + 2) * sizeof *heap);
    for (int i = 0; i < stations; i++) station[i] = (Station){-1, -1, 0};
    int32_t arrived = 0, completed = 0;
    schedule(exponential(gap), -1, 0);
    while (completed < most) {
        Event event = next_event();
        int32_t current = event.request, target = event.station + 1;
        if (event.station < 0) {
            current = arrived++;
            request[current].arrival = event.time;
            if (arrived < most) schedule(event.time + exponential(gap), -1, 0);
        } else {
            Station *s = &station[event.station];
            if (s->first >= 0) {
                int32_t waiting = s->first;
                s->first = request[waiting].next;
                if (s->first < 0) s->last = -1;
                schedule(event.time + exponential(service), event.station, waiting);
            } else {
                s->busy--;
            }
            if (target == stations) {
                response[completed++] = event.time - request[current].arrival;
                continue;
            }
        }
        Station *s = &station[target];
        if (s->busy < servers) {
            s->busy++;
            schedule(event.time + exponential(service), target, current);
        } else {
            request[current].next = -1;
            if (s->last < 0) s->first = current; else request[s->last].next = current;
            s->last = current;
        }
    }
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC, sum = 0.0;
    for (int32_t i = 0; i < most; i++) sum += response[i];
    printf("%d %.9f %.6f\n", most, seconds, sum / most);
    return 0;
}
