/*
 * Calls on descriptors, each done at once in the calling thread: positional reads and writes, syncs, and what Node
 * has no function for. The result is the system call's, or a negative errno; EINTR is not an answer, the call is made
 * again. Nothing is allocated and nothing throws, so this is what a caller uses who counts every microsecond.
 */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000U
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
/* Where struct statx has them, whatever the age of the headers. */
#define STATX_DIO_MEM_ALIGN_AT 0x98
#define STATX_DIO_OFFSET_ALIGN_AT 0x9c
#define STATX_BYTES 256

/* pread(fd, view, byteOffset, length, fileOffset) and pwrite: bytes, or a negative errno. */
static napi_value transfer(napi_env env, napi_callback_info info, enum fault operation) {
  struct call call = call_begin(env, info);
  int32_t fd;
  int64_t at, length, offset;
  uint8_t *data;
  size_t bytes;
  if (!get_i32(&call, 0, &fd) || !get_view(&call, 1, &data, &bytes) || !get_i64(&call, 2, &at) ||
      !get_i64(&call, 3, &length) || !get_i64(&call, 4, &offset) || at < 0 || length < 0 ||
      (uint64_t)at > bytes || (uint64_t)length > bytes - (uint64_t)at)
    return call_end(&call, -EINVAL);
  for (;;) {
    int64_t fault = fault_take(operation);
    size_t wanted = fault >= 0 && fault < length ? (size_t)fault : (size_t)length;
    int64_t result = fault;
    if (fault == FAULT_NONE || fault >= 0) {
      result = operation == FAULT_PREAD ? pread(fd, data + at, wanted, offset) : pwrite(fd, data + at, wanted, offset);
      if (result < 0) result = -errno;
    }
    if (result != -EINTR) return call_end(&call, result);
  }
}

static napi_value call_pread(napi_env env, napi_callback_info info) { return transfer(env, info, FAULT_PREAD); }
static napi_value call_pwrite(napi_env env, napi_callback_info info) { return transfer(env, info, FAULT_PWRITE); }

/* Shortens a copy of the vector to `limit` bytes, for a fault that lets an I/O fall short. */
static uint32_t shorten(struct iovec *vectors, uint32_t count, uint64_t limit) {
  for (uint32_t index = 0; index < count; index++) {
    if (vectors[index].iov_len >= limit) {
      vectors[index].iov_len = (size_t)limit;
      return index + 1;
    }
    limit -= vectors[index].iov_len;
  }
  return count;
}

/* preadv(fd, iovecs, count, fileOffset, flags) and pwritev; `iovecs` is 16 bytes an entry, as the kernel has them. */
static napi_value transfer_vector(napi_env env, napi_callback_info info, enum fault operation) {
  struct call call = call_begin(env, info);
  int32_t fd, flags;
  int64_t offset;
  uint32_t count;
  uint8_t *data;
  size_t bytes;
  struct iovec vectors[IOVECS_MAX];
  if (!get_i32(&call, 0, &fd) || !get_view(&call, 1, &data, &bytes) || !get_u32(&call, 2, &count) ||
      !get_i64(&call, 3, &offset) || !get_i32(&call, 4, &flags) || count > IOVECS_MAX ||
      bytes / sizeof vectors[0] < count)
    return call_end(&call, -EINVAL);
  memcpy(vectors, data, count * sizeof vectors[0]);
  const long number = operation == FAULT_PREADV ? SYS_preadv2 : SYS_pwritev2;
  for (;;) {
    int64_t fault = fault_take(operation);
    uint32_t used = fault >= 0 ? shorten(vectors, count, (uint64_t)fault) : count;
    int64_t result = fault;
    if (fault == FAULT_NONE || fault >= 0) {
      /* The offset goes in the low word on 64-bit machines; the high word is shifted out. */
      result = syscall(number, fd, vectors, (unsigned long)used, (long)offset, 0L, flags);
      if (result < 0) result = -errno;
    }
    if (result != -EINTR) return call_end(&call, result);
  }
}

static napi_value call_preadv(napi_env env, napi_callback_info info) {
  return transfer_vector(env, info, FAULT_PREADV);
}
static napi_value call_pwritev(napi_env env, napi_callback_info info) {
  return transfer_vector(env, info, FAULT_PWRITEV);
}

/* Calls that take a descriptor and up to three numbers. */
static int simple(enum fault operation, int fd, int64_t first, int64_t second, int32_t flags) {
  int result;
  do {
    int64_t fault = fault_take(operation);
    if (fault != FAULT_NONE) {
      result = (int)fault;
      continue;
    }
    switch (operation) {
      case FAULT_FSYNC:
        result = fsync(fd) < 0 ? -errno : 0;
        break;
      case FAULT_FDATASYNC:
        result = fdatasync(fd) < 0 ? -errno : 0;
        break;
      case FAULT_FADVISE:
        result = -posix_fadvise(fd, first, second, flags);
        break;
      case FAULT_FALLOCATE:
        result = syscall(SYS_fallocate, fd, flags, first, second) < 0 ? -errno : 0;
        break;
      case FAULT_SYNC_FILE_RANGE:
        result = syscall(SYS_sync_file_range, fd, first, second, flags) < 0 ? -errno : 0;
        break;
      default:
        result = -ENOSYS;
    }
  } while (result == -EINTR);
  return result;
}

static napi_value sync_call(napi_env env, napi_callback_info info, enum fault operation) {
  struct call call = call_begin(env, info);
  int32_t fd;
  if (!get_i32(&call, 0, &fd)) return call_end(&call, -EINVAL);
  return call_end(&call, simple(operation, fd, 0, 0, 0));
}

static napi_value call_fsync(napi_env env, napi_callback_info info) { return sync_call(env, info, FAULT_FSYNC); }
static napi_value call_fdatasync(napi_env env, napi_callback_info info) {
  return sync_call(env, info, FAULT_FDATASYNC);
}

/* (fd, offset, length, flags) */
static napi_value range_call(napi_env env, napi_callback_info info, enum fault operation) {
  struct call call = call_begin(env, info);
  int32_t fd, flags;
  int64_t offset, length;
  if (!get_i32(&call, 0, &fd) || !get_i64(&call, 1, &offset) || !get_i64(&call, 2, &length) ||
      !get_i32(&call, 3, &flags))
    return call_end(&call, -EINVAL);
  return call_end(&call, simple(operation, fd, offset, length, flags));
}

static napi_value call_fadvise(napi_env env, napi_callback_info info) { return range_call(env, info, FAULT_FADVISE); }
static napi_value call_fallocate(napi_env env, napi_callback_info info) {
  return range_call(env, info, FAULT_FALLOCATE);
}
static napi_value call_sync_file_range(napi_env env, napi_callback_info info) {
  return range_call(env, info, FAULT_SYNC_FILE_RANGE);
}

/* dioAlign(fd, target): memory and offset alignment; both zero if the file cannot do direct I/O or nobody knows. */
static napi_value dio_align(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t fd;
  uint8_t *target;
  size_t bytes;
  uint8_t answer[STATX_BYTES] = {0};
  uint32_t mask;
  if (!get_i32(&call, 0, &fd) || !get_view(&call, 1, &target, &bytes) || bytes < 2 * sizeof(uint32_t))
    return call_end(&call, -EINVAL);
  memset(target, 0, 2 * sizeof(uint32_t));
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, answer) < 0) return call_end(&call, -errno);
  memcpy(&mask, answer, sizeof mask);
  if ((mask & STATX_DIOALIGN) == 0) return call_end(&call, 0);
  memcpy(target, answer + STATX_DIO_MEM_ALIGN_AT, sizeof(uint32_t));
  memcpy(target + sizeof(uint32_t), answer + STATX_DIO_OFFSET_ALIGN_AT, sizeof(uint32_t));
  return call_end(&call, 0);
}

/* Pages asked for in one mincore: a byte of answer each. */
#define RESIDENT_PAGES_AT_ONCE 16384

/* residentPages(fd, offset, length): pages of a file range that are in the page cache. */
static napi_value resident_pages(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t fd;
  int64_t offset, length;
  const int64_t page = sysconf(_SC_PAGESIZE);
  if (!get_i32(&call, 0, &fd) || !get_i64(&call, 1, &offset) || !get_i64(&call, 2, &length) || offset < 0 ||
      length < 0 || offset % page != 0)
    return call_end(&call, -EINVAL);
  uint8_t *answer = malloc(RESIDENT_PAGES_AT_ONCE);
  if (answer == NULL) return call_end(&call, -ENOMEM);
  int64_t resident = 0;
  while (length > 0 && resident >= 0) {
    const int64_t window = length < RESIDENT_PAGES_AT_ONCE * page ? length : RESIDENT_PAGES_AT_ONCE * page;
    void *start = mmap(NULL, (size_t)window, PROT_READ, MAP_SHARED, fd, offset);
    if (start == MAP_FAILED || mincore(start, (size_t)window, answer) < 0) {
      resident = -errno;
    } else {
      for (int64_t index = 0; index < (window + page - 1) / page; index++) resident += answer[index] & 1;
    }
    if (start != MAP_FAILED) munmap(start, (size_t)window);
    offset += window;
    length -= window;
  }
  free(answer);
  return call_end(&call, resident);
}

const struct method file_methods[] = {
    {"pread", call_pread},         {"pwrite", call_pwrite},
    {"preadv", call_preadv},       {"pwritev", call_pwritev},
    {"fsync", call_fsync},         {"fdatasync", call_fdatasync},
    {"fadvise", call_fadvise},     {"fallocate", call_fallocate},
    {"syncFileRange", call_sync_file_range}, {"dioAlign", dio_align},
    {"residentPages", resident_pages}, METHODS_END,
};
