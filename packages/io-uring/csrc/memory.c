/*
 * Memory: where a typed array's bytes are, and advice to the kernel about their pages.
 *
 * The address of bytes over a WebAssembly memory or a SharedArrayBuffer never changes. Advice covers the whole pages
 * inside a view only, so it never touches a neighbour.
 */
#include "native.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* addressOf(view): a double, exact below 2^53; user space ends at 2^47 (at 2^56 with five-level page tables). */
static napi_value address_of(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  uint8_t *data;
  size_t bytes;
  if (!get_view(&call, 0, &data, &bytes)) return call_end(&call, -EINVAL);
  if ((uintptr_t)data >= (uintptr_t)1 << 53) return call_end(&call, -ERANGE);
  return call_end(&call, (int64_t)(uintptr_t)data);
}

/* Advises the whole pages inside: how many bytes that is, or a negative errno. */
static int64_t advise(uint8_t *data, size_t bytes, int advice) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t start = ((uintptr_t)data + page - 1) / page * page;
  const uintptr_t end = ((uintptr_t)data + bytes) / page * page;
  if (end <= start) return -EINVAL;
  return madvise((void *)start, end - start, advice) < 0 ? -errno : (int64_t)(end - start);
}

/* adviseHugePages(view, collapse): zero, or a negative errno. */
static napi_value advise_huge_pages(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  uint8_t *data;
  size_t bytes;
  bool collapse = false;
  if (!get_view(&call, 0, &data, &bytes)) return call_end(&call, -EINVAL);
  napi_get_value_bool(env, call.arguments[1], &collapse);
  const int64_t advised = advise(data, bytes, collapse ? MADV_COLLAPSE : MADV_HUGEPAGE);
  return call_end(&call, advised < 0 ? advised : 0);
}

/* discardPages(view): bytes of the pages that were given back, or a negative errno. */
static napi_value discard_pages(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  uint8_t *data;
  size_t bytes;
  if (!get_view(&call, 0, &data, &bytes)) return call_end(&call, -EINVAL);
  return call_end(&call, advise(data, bytes, MADV_DONTNEED));
}

const struct method memory_methods[] = {
    {"addressOf", address_of},
    {"adviseHugePages", advise_huge_pages},
    {"discardPages", discard_pages},
    METHODS_END,
};
