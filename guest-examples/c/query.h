// Queries, decoded as `application/x-www-form-urlencoded`.
#pragma once

#include "bindings/app.h"

// The first value of this name, in memory of its own; false where there is none. A `%` that begins no code stays, and
// bytes that are not UTF-8 become U+FFFD: a text that is not UTF-8 cannot be handed to the host.
bool query_value(app_string_t query, const char *name, app_string_t *value);
