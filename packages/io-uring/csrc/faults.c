/*
 * The fault hook: makes the nth call of an operation fail, or fall short, as if the kernel had said so.
 *
 * Tools that sit between a program and the kernel (strace, libfiu) do not reach what goes through a ring, and a test
 * wants the third write to fail, not some write. Armed for the whole process, off unless armed.
 */
#include <errno.h>
#include <pthread.h>

#include "native.h"

_Atomic int faults_armed; /* operations with faults left */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
  uint32_t pass;  /* calls that go through first */
  uint32_t times; /* calls that fail after those */
  int64_t result;
} faults[FAULTS];

int64_t fault_take_armed(enum fault operation) {
  int64_t result = FAULT_NONE;
  pthread_mutex_lock(&lock);
  if (faults[operation].times > 0) {
    if (faults[operation].pass > 0) {
      faults[operation].pass -= 1;
    } else {
      result = faults[operation].result;
      faults[operation].times -= 1;
      if (faults[operation].times == 0) atomic_fetch_sub(&faults_armed, 1);
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

/* faultArm(operation, pass, times, result): times 0 disarms. */
static napi_value fault_arm(napi_env env, napi_callback_info info) {
  struct call call = call_begin(env, info);
  uint32_t operation, pass, times;
  int64_t result;
  if (!get_u32(&call, 0, &operation) || operation >= FAULTS || !get_u32(&call, 1, &pass) ||
      !get_u32(&call, 2, &times) || !get_i64(&call, 3, &result))
    return call_end(&call, -EINVAL);
  pthread_mutex_lock(&lock);
  if (faults[operation].times > 0) atomic_fetch_sub(&faults_armed, 1);
  faults[operation].pass = pass;
  faults[operation].times = times;
  faults[operation].result = result;
  if (times > 0) atomic_fetch_add(&faults_armed, 1);
  pthread_mutex_unlock(&lock);
  return call_end(&call, 0);
}

const struct method fault_methods[] = {{"faultArm", fault_arm}, METHODS_END};
