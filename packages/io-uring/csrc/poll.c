/*
 * Waking a thread's event loop when its ring has completions: a uv_poll on the ring's descriptor.
 *
 * The kernel reports the descriptor readable as long as the completion queue is not empty. JavaScript is called only
 * if there is something to reap at that moment: another thread may have been quicker. Polling the ring itself costs
 * one descriptor and one system call less than an eventfd, and is as fast.
 *
 * One poll a ring. Only libuv may free the handle, in its close callback; everything else is let go of at once.
 */
#include "native.h"

#include <errno.h>
#include <stdlib.h>
#include <uv.h>

struct poll {
  uv_poll_t handle; /* first: libuv hands back a pointer to it */
  struct instance *self;
  const struct ring *ring;
  napi_ref callback;
  napi_async_context context;
  struct poll *next;
};

static void on_closed(uv_handle_t *handle) {
  struct poll *poll = (struct poll *)handle;
  struct instance *self = poll->self;
  free(poll);
  self->polls_closing -= 1;
  if (self->polls_closing == 0 && self->teardown != NULL) napi_remove_async_cleanup_hook(self->teardown);
}

/* Off the list, stopped, and on its way to be freed. */
static void poll_close(struct poll *poll) {
  struct instance *self = poll->self;
  for (struct poll **link = &self->polls; *link != NULL; link = &(*link)->next) {
    if (*link != poll) continue;
    *link = poll->next;
    break;
  }
  napi_delete_reference(self->env, poll->callback);
  napi_async_destroy(self->env, poll->context);
  self->polls_closing += 1;
  uv_close((uv_handle_t *)&poll->handle, on_closed);
}

static struct poll *poll_of(const struct instance *self, const struct ring *ring) {
  struct poll *poll = self->polls;
  while (poll != NULL && poll->ring != ring) poll = poll->next;
  return poll;
}

void poll_stop_of(struct instance *self, const struct ring *ring) {
  struct poll *poll = poll_of(self, ring);
  if (poll != NULL) poll_close(poll);
}

void polls_close(struct instance *self) {
  while (self->polls != NULL) poll_close(self->polls);
}

static void on_readable(uv_poll_t *handle, int status, int events) {
  (void)events;
  struct poll *poll = (struct poll *)handle;
  napi_env env = poll->self->env;
  /* A failed poll is stopped by libuv; the owner has to hear of it, and will see the reason when it enters. */
  if (status == 0 && ring_ready(poll->ring) == 0) return;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, receiver, result;
  if (napi_get_reference_value(env, poll->callback, &callback) == napi_ok &&
      napi_get_global(env, &receiver) == napi_ok) {
    /* The callback may stop the poll or close the ring: `poll` is not touched after this. */
    napi_status called = napi_make_callback(env, poll->context, receiver, callback, 0, NULL, &result);
    napi_value error;
    if (called == napi_pending_exception && napi_get_and_clear_last_exception(env, &error) == napi_ok)
      napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

/* pollStart(id, callback): zero, -EBUSY if the ring has a poll, or libuv's negative errno. */
static napi_value poll_start(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  struct instance *self = call.self;
  int32_t id;
  struct ring *ring = get_i32(&call, 0, &id) ? ring_owned(self, id) : NULL;
  if (ring == NULL) return call_end(&call, -EBADF);
  if (self->teardown != NULL) return call_end(&call, -ECANCELED);
  if (poll_of(self, ring) != NULL) return call_end(&call, -EBUSY);
  uv_loop_t *loop;
  napi_value name, resource;
  struct poll *poll = calloc(1, sizeof *poll);
  if (poll == NULL) return call_end(&call, -ENOMEM);
  if (napi_get_uv_event_loop(env, &loop) != napi_ok || napi_create_object(env, &resource) != napi_ok ||
      napi_create_string_utf8(env, "MillraceRing", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_reference(env, call.arguments[1], 1, &poll->callback) != napi_ok ||
      napi_async_init(env, resource, name, &poll->context) != napi_ok) {
    if (poll->callback != NULL) napi_delete_reference(env, poll->callback);
    free(poll);
    return call_end(&call, -EINVAL);
  }
  poll->self = self;
  poll->ring = ring;
  int result = uv_poll_init(loop, &poll->handle, ring->fd);
  if (result != 0) {
    napi_delete_reference(env, poll->callback);
    napi_async_destroy(env, poll->context);
    free(poll);
    return call_end(&call, result);
  }
  poll->next = self->polls;
  self->polls = poll;
  result = uv_poll_start(&poll->handle, UV_READABLE, on_readable);
  if (result != 0) poll_close(poll);
  return call_end(&call, result);
}

/* pollKeepAlive(id, yes): whether the poll keeps its event loop running. */
static napi_value poll_keep_alive(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  bool yes;
  struct ring *ring = get_i32(&call, 0, &id) ? ring_owned(call.self, id) : NULL;
  struct poll *poll = ring == NULL ? NULL : poll_of(call.self, ring);
  if (poll == NULL) return call_end(&call, -EBADF);
  if (napi_get_value_bool(env, call.arguments[1], &yes) != napi_ok) return call_end(&call, -EINVAL);
  if (yes) uv_ref((uv_handle_t *)&poll->handle);
  else uv_unref((uv_handle_t *)&poll->handle);
  return call_end(&call, 0);
}

static napi_value poll_stop(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  int32_t id;
  struct ring *ring = get_i32(&call, 0, &id) ? ring_owned(call.self, id) : NULL;
  if (ring != NULL) poll_stop_of(call.self, ring);
  return call_end(&call, 0);
}

const struct method poll_methods[] = {
    {"pollStart", poll_start},
    {"pollKeepAlive", poll_keep_alive},
    {"pollStop", poll_stop},
    METHODS_END,
};
