/*
 * A stand-in for NVIDIA's management library, for machines without an NVIDIA GPU.
 *
 * It exports the functions that the collector reaches through the real binding `pynvml`, with the binding's layouts, and
 * plays a script of two GPUs: GPU 0 is busy, GPU 1 idle and without some counters. What counts up does so by a fixed step
 * with every reading, so that a test knows each rate. Arguments are checked as strictly as they can be: a wrong handle,
 * version or scope is NVML_ERROR_INVALID_ARGUMENT.
 *
 *     cc -shared -fPIC -pthread -o libnvidia-ml.so.1 nvml_stub.c
 *
 * Environment variables:
 *
 *     NVML_STUB_FAULTS     rules NAME[.GPU]=CODE[@FIRST[-[LAST]]], separated by spaces: calls of NAME return CODE. NAME is a
 *                          function, `field<id>` for one field value, `metric<id>` for one GPM metric, or `*` for every
 *                          function that names a GPU. FIRST and LAST count the calls that match; `@3` is the third alone,
 *                          `@3-` all from the third on.
 *     NVML_STUB_GPUS       how many GPUs there are (2)
 *     NVML_STUB_PCIE_MS    how long a reading of the PCIe throughput blocks (20)
 *     NVML_STUB_PCIE_BITS  width of the PCIe byte counters (64)
 *     NVML_STUB_PID        one more process on GPU 0
 *     NVML_STUB_XIDS       XID errors of GPU 1, separated by commas, that happen after the first wait for events
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    VERSION_MISMATCH = 25,
};

enum { UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3 };

#define EXPORT __attribute__((visibility("default"))) unsigned
#define NOT_AVAILABLE UINT64_MAX

/* ---- layouts */

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { uint64_t total, free, used; } Memory;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} PciInfo;

typedef struct {
    uint32_t field_id, scope_id;
    int64_t timestamp, latency_us;
    unsigned type, status;
    union { double d; unsigned ui; uint64_t ull; } value;
} FieldValue;

typedef struct { unsigned pid; uint64_t used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned pid; uint64_t at_us; unsigned sm, memory, encoder, decoder; } ProcessUse;

typedef struct { unsigned version, supported; } GpmSupport;
typedef struct { int gpu; uint64_t number; } GpmSample;

typedef struct {
    unsigned id, status;
    double value;
    char *short_name, *long_name, *unit;
} GpmMetric;

typedef struct {
    unsigned version, count;
    GpmSample *before, *after;
    GpmMetric metrics[];
} GpmQuery;

typedef struct { int registered; } EventSet;
typedef struct { void *device; uint64_t type, data; unsigned gpu_instance, compute_instance; } Event;

typedef struct Gpu {
    const char *name, *uuid, *bus_id;
    unsigned max_clocks[3], clocks[3], use, memory_use, milliwatts, limit_milliwatts, degrees, pcie_generation, replays_step;
    uint64_t reasons, memory_used;
    unsigned pcie_kilobytes[2];
    /* what counts up */
    uint64_t replays, ecc, fields[256], gpm, utilization;
} Gpu;

/* ---- the script */

static Gpu gpus[] = {
    {
        .name = "NVIDIA H100 80GB HBM3",
        .uuid = "GPU-00000000-1111-2222-3333-444444444444",
        .bus_id = "00000000:17:00.0",
        .max_clocks = {1980, 1980, 2619},
        .clocks = {1755, 1740, 2619},
        .use = 97,
        .memory_use = 61,
        .milliwatts = 651234,
        .limit_milliwatts = 700000,
        .degrees = 64,
        .pcie_generation = 5,
        .replays_step = 2,
        .reasons = 0x4,
        .memory_used = UINT64_C(73014444032),
        .pcie_kilobytes = {1500000, 2500000},
    },
    {
        .name = "NVIDIA H100 80GB HBM3",
        .uuid = "GPU-55555555-6666-7777-8888-999999999999",
        .bus_id = "00000000:65:00.0",
        .max_clocks = {1980, 1980, 2619},
        .clocks = {345, 345, 1593},
        .milliwatts = 70500,
        .limit_milliwatts = 650000,
        .degrees = 31,
        .pcie_generation = 1,
        .reasons = 0x1,
        .memory_used = UINT64_C(1048576),
        .pcie_kilobytes = {12, 34},
    },
};

static const unsigned steps[256] = {
    [74] = 250000000, /* ns in which power held the clock down */
    [75] = 50000000,  /* ns in which heat did */
    [138] = 4000000,  /* KiB over NVLink */
    [139] = 1000000,
    [197] = 3000000000U, /* bytes over PCIe */
    [198] = 1500000000,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int started;
static unsigned open_objects;

static unsigned number_from(const char *name, unsigned otherwise) {
    const char *text = getenv(name);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

/* ---- faults */

typedef struct { char name[64]; int gpu; unsigned code; unsigned long first, last, calls; } Rule;

static Rule rules[32];
static int rule_count;

static void read_rules(void) {
    const char *text = getenv("NVML_STUB_FAULTS");
    char *copy = strdup(text ? text : ""), *rest = copy, *word;
    while ((word = strsep(&rest, " ")) && rule_count < 32) {
        char *equals = strchr(word, '='), *dot = strchr(word, '.');
        if (!equals)
            continue;
        Rule *rule = &rules[rule_count++];
        *equals = 0;
        rule->gpu = -1;
        if (dot) {
            *dot = 0;
            rule->gpu = atoi(dot + 1);
        }
        snprintf(rule->name, sizeof rule->name, "%s", word);
        char *end;
        rule->code = (unsigned)strtoul(equals + 1, &end, 10);
        rule->first = 1;
        rule->last = UINT64_MAX;
        if (*end == '@') {
            rule->first = rule->last = strtoul(end + 1, &end, 10);
            if (*end == '-')
                rule->last = end[1] ? strtoul(end + 1, NULL, 10) : UINT64_MAX;
        }
    }
    free(copy);
}

/* Return what the rules say of a call; `gpu` is -1 where it names none. */
static unsigned fault(const char *name, int gpu) {
    unsigned code = SUCCESS;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < rule_count; i++) {
        Rule *rule = &rules[i];
        int named = !strcmp(rule->name, name) || (!strcmp(rule->name, "*") && gpu >= 0 && !strncmp(name, "nvml", 4));
        if (!named || (rule->gpu >= 0 && rule->gpu != gpu))
            continue;
        rule->calls++;
        if (rule->calls >= rule->first && rule->calls <= rule->last)
            code = rule->code;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

#define CALL(gpu)                                \
    do {                                         \
        if (!started)                            \
            return UNINITIALIZED;                \
        unsigned code = fault(__func__, (gpu));  \
        if (code)                                \
            return code;                         \
    } while (0)

#define OF_GPU(device)               \
    int index = index_of(device);    \
    if (index < 0)                   \
        return INVALID_ARGUMENT;     \
    Gpu *gpu = &gpus[index];         \
    (void)gpu;                       \
    CALL(index)

static int index_of(const void *device) {
    for (int i = 0; i < 2; i++)
        if (device == &gpus[i])
            return i;
    return -1;
}

static unsigned text_into(char *to, unsigned length, const char *text) {
    if (strlen(text) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

static uint64_t counted_up(uint64_t *count, uint64_t step) {
    pthread_mutex_lock(&lock);
    uint64_t value = *count += step;
    pthread_mutex_unlock(&lock);
    return value;
}

static void sleep_ms(unsigned ms) {
    struct timespec time = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&time, NULL);
}

/* ---- the session */

EXPORT nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_rules);
    unsigned code = fault(__func__, -1);
    if (!code)
        started++;
    return code;
}

EXPORT nvmlShutdown(void) {
    CALL(-1);
    started--;
    return SUCCESS;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(unsigned code) {
    static __thread char text[32];
    snprintf(text, sizeof text, "stub error %u", code);
    return text;
}

/* For tests: sessions, event sets and GPM samples that were not given back. */
EXPORT nvmlStubOpenObjects(void) { return (unsigned)started + open_objects; }

EXPORT nvmlSystemGetDriverVersion(char *version, unsigned length) {
    CALL(-1);
    return text_into(version, length, "575.57.08");
}

EXPORT nvmlDeviceGetCount_v2(unsigned *count) {
    CALL(-1);
    *count = number_from("NVML_STUB_GPUS", 2);
    return SUCCESS;
}

EXPORT nvmlDeviceGetHandleByIndex_v2(unsigned number, void **device) {
    if (number > 1)
        return INVALID_ARGUMENT;
    CALL((int)number);
    *device = &gpus[number];
    return SUCCESS;
}

/* ---- facts and states */

EXPORT nvmlDeviceGetName(void *device, char *name, unsigned length) {
    OF_GPU(device);
    return text_into(name, length, gpu->name);
}

EXPORT nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    OF_GPU(device);
    return text_into(uuid, length, gpu->uuid);
}

EXPORT nvmlDeviceGetPciInfo_v3(void *device, PciInfo *info) {
    OF_GPU(device);
    memset(info, 0, sizeof *info);
    return text_into(info->bus_id, sizeof info->bus_id, gpu->bus_id);
}

EXPORT nvmlDeviceGetMaxClockInfo(void *device, unsigned type, unsigned *mhz) {
    OF_GPU(device);
    if (type > 2)
        return INVALID_ARGUMENT;
    *mhz = gpu->max_clocks[type];
    return SUCCESS;
}

EXPORT nvmlDeviceGetClockInfo(void *device, unsigned type, unsigned *mhz) {
    OF_GPU(device);
    if (type > 2)
        return INVALID_ARGUMENT;
    *mhz = gpu->clocks[type];
    return SUCCESS;
}

EXPORT nvmlDeviceGetUtilizationRates(void *device, Utilization *use) {
    OF_GPU(device);
    *use = (Utilization){gpu->use, gpu->memory_use};
    return SUCCESS;
}

EXPORT nvmlDeviceGetCurrentClocksEventReasons(void *device, uint64_t *reasons) {
    OF_GPU(device);
    *reasons = gpu->reasons;
    return SUCCESS;
}

EXPORT nvmlDeviceGetCurrentClocksThrottleReasons(void *device, uint64_t *reasons) {
    OF_GPU(device);
    *reasons = gpu->reasons;
    return SUCCESS;
}

EXPORT nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    OF_GPU(device);
    *milliwatts = gpu->milliwatts;
    return SUCCESS;
}

EXPORT nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) {
    OF_GPU(device);
    *milliwatts = gpu->limit_milliwatts;
    return SUCCESS;
}

EXPORT nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *degrees) {
    OF_GPU(device);
    if (sensor != 0)
        return INVALID_ARGUMENT;
    *degrees = gpu->degrees;
    return SUCCESS;
}

EXPORT nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    OF_GPU(device);
    uint64_t total = UINT64_C(85520809984);
    *memory = (Memory){total, total - gpu->memory_used, gpu->memory_used};
    return SUCCESS;
}

EXPORT nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned *generation) {
    OF_GPU(device);
    *generation = gpu->pcie_generation;
    return SUCCESS;
}

EXPORT nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned *width) {
    OF_GPU(device);
    *width = 16;
    return SUCCESS;
}

/* ---- counts and rates */

EXPORT nvmlDeviceGetPcieReplayCounter(void *device, unsigned *count) {
    OF_GPU(device);
    *count = (unsigned)counted_up(&gpu->replays, gpu->replays_step);
    return SUCCESS;
}

EXPORT nvmlDeviceGetPcieThroughput(void *device, unsigned way, unsigned *kilobytes) {
    OF_GPU(device);
    if (way > 1)
        return INVALID_ARGUMENT;
    sleep_ms(number_from("NVML_STUB_PCIE_MS", 20));
    *kilobytes = gpu->pcie_kilobytes[way];
    return SUCCESS;
}

EXPORT nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned since, uint64_t *count) {
    OF_GPU(device);
    if (kind != 1 || since != 0) /* uncorrected, since the driver was loaded */
        return INVALID_ARGUMENT;
    if (index == 1)
        return NOT_SUPPORTED;
    *count = counted_up(&gpu->ecc, 1);
    return SUCCESS;
}

static void read_field(int index, FieldValue *value) {
    char name[16];
    snprintf(name, sizeof name, "field%u", value->field_id);
    value->timestamp = 1;
    value->latency_us = 1;
    value->type = UNSIGNED_LONG_LONG;
    value->value.ull = 0;
    value->status = fault(name, index);
    if (value->status)
        return;
    uint32_t id = value->field_id;
    int nvlink = id == 138 || id == 139, pcie = id == 197 || id == 198;
    if (id == 82 && index == 0) {
        value->type = UNSIGNED_INT;
        value->value.ull = UINT64_C(0xABCDEF0000000000); /* what lies beside a narrow value means nothing */
        value->value.ui = 71;
    } else if (id > 255 || !steps[id] || (index == 1 && nvlink)) {
        value->status = NOT_SUPPORTED;
    } else if (nvlink && value->scope_id != UINT32_MAX) { /* one link of eighteen */
        value->value.ull = counted_up(&gpus[index].fields[id], steps[id]) / 18;
    } else {
        value->value.ull = counted_up(&gpus[index].fields[id], index == 0 ? steps[id] : 0);
        if (pcie && number_from("NVML_STUB_PCIE_BITS", 64) == 32) {
            value->type = UNSIGNED_INT;
            value->value.ull &= UINT32_MAX;
        }
    }
}

EXPORT nvmlDeviceGetFieldValues(void *device, int count, FieldValue *values) {
    OF_GPU(device);
    if (count < 1 || !values)
        return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++)
        read_field(index, &values[i]);
    return SUCCESS;
}

/* ---- processes */

EXPORT nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    OF_GPU(device);
    unsigned own = number_from("NVML_STUB_PID", 0), there = index == 1 ? 0 : own ? 3 : 2, room = *count;
    *count = there;
    if (room < there)
        return INSUFFICIENT_SIZE;
    Process all[] = {
        {4711, UINT64_C(70000000000), UINT32_MAX, UINT32_MAX},
        {4712, NOT_AVAILABLE, UINT32_MAX, UINT32_MAX},
        {own, UINT64_C(500000000), UINT32_MAX, UINT32_MAX},
    };
    if (there)
        memcpy(processes, all, there * sizeof *all);
    return SUCCESS;
}

/* Each reading finds one new moment of process 4711, an older one, one of a process that is idle, and what no driver should
 * write, but some do: two impossible values, and one moment of process 4713 that was seen before. */
EXPORT nvmlDeviceGetProcessUtilization(void *device, ProcessUse *use, unsigned *count, uint64_t seen_us) {
    OF_GPU(device);
    if (index == 1)
        return NOT_FOUND;
    if (!use) {
        *count = 6;
        return INSUFFICIENT_SIZE;
    }
    if (*count < 6)
        return INSUFFICIENT_SIZE;
    uint64_t began_us = UINT64_C(1700000000000000), now_us = began_us + counted_up(&gpu->utilization, 1000000);
    ProcessUse all[] = {
        {4711, now_us, 80, 40, 0, 0},
        {4711, now_us - 400000, 55, 30, 0, 0},
        {4712, now_us - 200000, 0, 0, 0, 0},
        {4711, UINT64_C(9000000000000000000), 4294967280U, 1, 0, 0},
        {77, now_us, 1 << 30, 1, 0, 0},
        {4713, began_us, 12, 3, 0, 0},
    };
    *count = 0;
    for (unsigned i = 0; i < 6; i++)
        if (all[i].at_us > seen_us || all[i].pid == 4713)
            use[(*count)++] = all[i];
    return SUCCESS;
}

/* ---- GPM */

EXPORT nvmlGpmQueryDeviceSupport(void *device, GpmSupport *support) {
    OF_GPU(device);
    if (support->version != 1)
        return VERSION_MISMATCH;
    support->supported = index == 0;
    return SUCCESS;
}

EXPORT nvmlGpmSampleAlloc(GpmSample **made) {
    CALL(-1);
    *made = calloc(1, sizeof **made);
    open_objects++;
    return SUCCESS;
}

EXPORT nvmlGpmSampleFree(GpmSample *given) {
    CALL(-1);
    free(given);
    open_objects--;
    return SUCCESS;
}

EXPORT nvmlGpmSampleGet(void *device, GpmSample *into) {
    OF_GPU(device);
    if (!into)
        return INVALID_ARGUMENT;
    *into = (GpmSample){index, counted_up(&gpu->gpm, 1)};
    return SUCCESS;
}

/* Two readings of one GPU, the older one first; of what is asked for, percent and MiB/s. */
EXPORT nvmlGpmMetricsGet(GpmQuery *query) {
    CALL(-1);
    if (query->version != 1)
        return VERSION_MISMATCH;
    GpmSample *before = query->before, *after = query->after;
    if (!query->count || !before || !after || before->gpu != after->gpu || !before->number || before->number >= after->number)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < query->count; i++) {
        GpmMetric *metric = &query->metrics[i];
        char name[16];
        snprintf(name, sizeof name, "metric%u", metric->id);
        metric->status = fault(name, after->gpu);
        switch (metric->id) {
        case 2: metric->value = 81.5; break;
        case 3: metric->value = 42.25; break;
        case 5: metric->value = 37.0; break;
        case 10: metric->value = 63.5; break;
        case 60: metric->value = 512.0; break;
        case 61: metric->value = 256.0; break;
        default: metric->status = INVALID_ARGUMENT;
        }
    }
    return SUCCESS;
}

/* ---- events */

EXPORT nvmlEventSetCreate(EventSet **made) {
    CALL(-1);
    *made = calloc(1, sizeof **made);
    open_objects++;
    return SUCCESS;
}

EXPORT nvmlEventSetFree(EventSet *given) {
    CALL(-1);
    free(given);
    open_objects--;
    return SUCCESS;
}

EXPORT nvmlDeviceRegisterEvents(void *device, uint64_t types, EventSet *set) {
    OF_GPU(device);
    if (types != 0x8 || !set) /* critical XIDs */
        return INVALID_ARGUMENT;
    set->registered |= 1 << index;
    return SUCCESS;
}

EXPORT nvmlEventSetWait_v2(EventSet *set, Event *event, unsigned timeout_ms) {
    CALL(-1);
    static int waited;
    static unsigned delivered;
    if (!set || !event)
        return INVALID_ARGUMENT;
    const char *next = getenv("NVML_STUB_XIDS");
    for (unsigned i = 0; next && i < delivered; i++)
        next = (next = strchr(next, ',')) ? next + 1 : NULL;
    if (!waited++ || !next || !(set->registered & 2)) {
        sleep_ms(timeout_ms);
        return TIMEOUT;
    }
    delivered++;
    *event = (Event){&gpus[1], 0x8, strtoul(next, NULL, 10), UINT32_MAX, UINT32_MAX};
    return SUCCESS;
}
