/*
 * Entry of the addon: one instance a thread, its functions, its end.
 *
 * A thread's end comes in two steps, in this order. The asynchronous cleanup hook drops what Node-API has given out
 * (it frees no reference by itself), closes the poll handles and lets Node go on only when libuv has let go of them: a
 * loop with open handles aborts the process. Then the instance is freed and the rings that were left open become orphans: other threads can still reap and close them.
 */
#include "native.h"

#include <errno.h>
#include <stdlib.h>

struct call call_begin(napi_env env, napi_callback_info info) {
  struct call call = {.env = env};
  size_t count = ARGUMENTS_MAX;
  napi_get_cb_info(env, info, &count, call.arguments, NULL, (void **)&call.self);
  return call;
}

napi_value call_end(const struct call *call, int64_t result) {
  napi_value value = NULL;
  if (result >= INT32_MIN && result <= INT32_MAX) napi_create_int32(call->env, (int32_t)result, &value);
  else napi_create_double(call->env, (double)result, &value);
  return value;
}

bool get_i32(const struct call *call, int index, int32_t *value) {
  return napi_get_value_int32(call->env, call->arguments[index], value) == napi_ok;
}

bool get_u32(const struct call *call, int index, uint32_t *value) {
  return napi_get_value_uint32(call->env, call->arguments[index], value) == napi_ok;
}

bool get_i64(const struct call *call, int index, int64_t *value) {
  return napi_get_value_int64(call->env, call->arguments[index], value) == napi_ok;
}

bool get_view(const struct call *call, int index, uint8_t **data, size_t *bytes) {
  napi_typedarray_type type;
  size_t length;
  void *start;
  if (napi_get_typedarray_info(call->env, call->arguments[index], &type, &length, &start, NULL, NULL) != napi_ok)
    return false;
  static const uint8_t element_bytes[] = {
      [napi_int8_array] = 1,    [napi_uint8_array] = 1,    [napi_uint8_clamped_array] = 1, [napi_int16_array] = 2,
      [napi_uint16_array] = 2,  [napi_int32_array] = 4,    [napi_uint32_array] = 4,        [napi_float32_array] = 4,
      [napi_float64_array] = 8, [napi_bigint64_array] = 8, [napi_biguint64_array] = 8,
  };
  if ((size_t)type >= sizeof element_bytes) return false;
  *data = start;
  *bytes = length * element_bytes[type];
  return true;
}

static void teardown_begin(napi_async_cleanup_hook_handle handle, void *data) {
  struct instance *self = data;
  self->teardown = handle;
  polls_close(self);
  rings_forget_buffers(self);
  if (self->polls_closing == 0) napi_remove_async_cleanup_hook(handle);
}

static void instance_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct instance *self = data;
  rings_orphan(self);
  free(self->owned);
  free(self);
}

static bool define(napi_env env, napi_value exports, struct instance *self, const struct method *method) {
  for (; method->name != NULL; method++) {
    napi_value function;
    if (napi_create_function(env, method->name, NAPI_AUTO_LENGTH, method->function, self, &function) != napi_ok ||
        napi_set_named_property(env, exports, method->name, function) != napi_ok)
      return false;
  }
  return true;
}

NAPI_MODULE_INIT() {
  struct instance *self = calloc(1, sizeof *self);
  if (self == NULL) return NULL;
  self->env = env;
  if (napi_set_instance_data(env, self, instance_free, NULL) != napi_ok) {
    free(self);
    return NULL;
  }
  napi_value version;
  if (napi_add_async_cleanup_hook(env, teardown_begin, self, NULL) != napi_ok ||
      napi_create_uint32(env, NATIVE_VERSION, &version) != napi_ok ||
      napi_set_named_property(env, exports, "version", version) != napi_ok ||
      !define(env, exports, self, ring_methods) || !define(env, exports, self, poll_methods) ||
      !define(env, exports, self, file_methods) || !define(env, exports, self, memory_methods) ||
      !define(env, exports, self, fault_methods))
    napi_throw_error(env, NULL, "io-uring: cannot define the native functions");
  return exports;
}
