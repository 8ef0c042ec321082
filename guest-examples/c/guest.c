// Ten events, two seconds apart, for everybody who opens the stream: what ../rust/quickstart does, in C.
//
// An instance of a guest lives for one call, and its memory goes with it. So what a call gets once is not freed here;
// what it gets for every event is.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/app.h"
#include "query.h"

// Every interface has a name of its own for the one type of errors.
typedef fanfare_sse_errors_error_t problem;
typedef fanfare_sse_requests_borrow_request_t request;
typedef fanfare_sse_connections_borrow_connection_t connection;
typedef fanfare_sse_publishers_borrow_publisher_t publisher;

static const uint8_t page[] = {
#embed "page.html"
};

static app_string_t string(const char *text) {
  app_string_t string;
  app_string_set(&string, text);
  return string;
}

static bool is(app_string_t string, const char *text) {
  return string.len == strlen(text) && memcmp(string.ptr, text, string.len) == 0;
}

// === Variables ===

static bool variable(const char *name, app_option_string_t *value, problem *error) {
  app_string_t key = string(name);
  wasi_config_store_error_t failed;
  if (wasi_config_store_get(&key, value, &failed)) return true;
  error->tag = FANFARE_SSE_ERRORS_ERROR_OTHER;
  error->val.other = failed.tag == WASI_CONFIG_STORE_ERROR_IO ? failed.val.io : failed.val.upstream;
  return false;
}

static app_string_t trim(app_string_t string) {
  while (string.len > 0 && strchr(" \t\r\n", *string.ptr)) string.ptr++, string.len--;
  while (string.len > 0 && strchr(" \t\r\n", string.ptr[string.len - 1])) string.len--;
  return string;
}

// A variable in milliseconds. The error does not name the value, which could be a secret.
static bool milliseconds(const char *name, uint64_t otherwise, uint64_t *number, problem *error) {
  app_option_string_t value;
  if (!variable(name, &value, error)) return false;
  *number = otherwise;
  if (!value.is_some) return true;
  app_string_t digits = trim(value.val);
  bool good = digits.len > 0;
  *number = 0;
  for (size_t index = 0; good && index < digits.len; index++) {
    uint8_t digit = digits.ptr[index] - '0';
    good = digit < 10 && !__builtin_mul_overflow(*number, 10, number) &&
           !__builtin_add_overflow(*number, digit, number);
  }
  if (good) return true;
  char sentence[100];
  snprintf(sentence, sizeof sentence, "the app's variable `%s`: not a number of milliseconds", name);
  error->tag = FANFARE_SSE_ERRORS_ERROR_INVALID;
  app_string_dup(&error->val.invalid, sentence); // the caller frees the text of an error
  return false;
}

// The parts of a variable that is separated by commas; none where there are none.
static bool list(const char *name, app_option_list_string_t *parts, problem *error) {
  app_option_string_t value;
  if (!variable(name, &value, error)) return false;
  *parts = (app_option_list_string_t){0};
  if (!value.is_some) return true;
  parts->val.ptr = malloc((value.val.len + 1) * sizeof(app_string_t));
  if (!parts->val.ptr) abort();
  uint8_t *rest = value.val.ptr, *end = rest + value.val.len;
  while (rest < end) {
    uint8_t *comma = memchr(rest, ',', end - rest);
    if (!comma) comma = end;
    app_string_t part = trim((app_string_t){rest, comma - rest});
    if (part.len > 0) parts->val.ptr[parts->val.len++] = part;
    rest = comma + 1;
  }
  parts->is_some = parts->val.len > 0;
  return true;
}

// === The server hook ===

static bool make_publisher(fanfare_sse_publishers_own_publisher_t *made, problem *error) {
  app_option_string_t url;
  if (!variable("redis-url", &url, error)) return false;
  if (!url.is_some) {
    *made = fanfare_sse_publishers_static_publisher_in_memory();
    return true;
  }
  fanfare_sse_redis_own_client_t client;
  if (!fanfare_sse_redis_connect(&url.val, &client, error)) return false;
  app_string_t sync_channel = string("quickstart");
  return fanfare_sse_publishers_static_publisher_redis(fanfare_sse_redis_clients_borrow_client(client), &sync_channel,
                                                       made, error);
}

bool exports_fanfare_sse_lifecycle_start(problem *error) {
  app_string_t name = string("publisher");
  if (fanfare_sse_registry_has(&name)) return true;
  fanfare_sse_publishers_own_publisher_t made;
  if (!make_publisher(&made, error)) return false;
  publisher borrowed = fanfare_sse_publishers_borrow_publisher(made);
  return fanfare_sse_publishing_start(borrowed, error) &&
         fanfare_sse_registry_set_publisher(&name, borrowed, error);
}

// === Requests ===

static bool respond(request request, uint16_t status, app_list_u8_t body, const char *type, const char *allow,
                    problem *error) {
  app_string_t type_value = string(type), allow_value = string(allow ? allow : "");
  app_tuple2_string_list_u8_t headers[] = {
      {string("content-type"), {type_value.ptr, type_value.len}},
      {string("allow"), {allow_value.ptr, allow_value.len}},
  };
  fanfare_sse_requests_response_t response = {status, {headers, allow ? 2 : 1}, body};
  return fanfare_sse_requests_method_request_respond(request, &response, error);
}

static bool respond_text(request request, uint16_t status, const char *text, const char *allow, problem *error) {
  app_list_u8_t body = {(uint8_t *)text, strlen(text)};
  return respond(request, status, body, "text/plain; charset=utf-8", allow, error);
}

static bool count_to_ten(publisher publisher, connection stream, app_string_t channel, app_string_t name,
                         uint64_t interval, problem *error) {
  for (int index = 0; index < 10; index++) {
    char digit[] = {'0' + index, 0};
    fanfare_sse_publishing_message_t message = {
        .event_type = {true, name},
        .data = {true, {.tag = FANFARE_SSE_EVENTS_PAYLOAD_TEXT, .val.text = string(digit)}},
    };
    fanfare_sse_publishing_receipt_t receipt;
    if (!fanfare_sse_publishing_publish(publisher, &channel, &message, &receipt, error)) return false;
    fanfare_sse_publishing_receipt_free(&receipt);
    // A pause that ends when the client leaves; then there is a reason.
    fanfare_sse_closing_close_reason_t reason;
    if (fanfare_sse_closing_closed(stream, &interval, &reason)) return true;
  }
  app_string_t id;
  fanfare_sse_connections_method_connection_id(stream, &id);
  return fanfare_sse_publishing_remove(publisher, &id, &channel, error) ||
         // The client may leave at any moment, this one included.
         error->tag == FANFARE_SSE_ERRORS_ERROR_NOT_FOUND;
}

static bool publish_to(connection stream, app_string_t channel, app_string_t name, uint64_t interval, problem *error) {
  app_string_t entry = string("publisher");
  fanfare_sse_registry_own_publisher_t owned;
  if (!fanfare_sse_registry_get_publisher(&entry, &owned, error)) return false;
  publisher publisher = fanfare_sse_publishers_borrow_publisher(owned);
  return fanfare_sse_publishing_register(publisher, stream, &channel, error) &&
         count_to_ten(publisher, stream, channel, name, interval, error);
}

static bool events(request request, problem *error) {
  app_string_t query = {0}, channel, name;
  fanfare_sse_requests_method_request_query(request, &query);
  if (!query_value(query, "channel", &channel)) channel = string("quickstart");
  if (!query_value(query, "name", &name)) name = string("");
  uint64_t interval;
  if (!milliseconds("interval-ms", 2000, &interval, error)) return false;
  fanfare_sse_connections_upgrade_options_t options = {0};
  if (!list("allowed-origins", &options.allowed_origins, error)) return false;

  fanfare_sse_connections_own_connection_t owned;
  if (!fanfare_sse_connections_upgrade((fanfare_sse_connections_borrow_request_t)request, &options, &owned, error))
    return false;
  connection stream = fanfare_sse_connections_borrow_connection(owned);
  if (publish_to(stream, channel, name, interval, error)) return true;
  // A stream that hears a channel outlives its handler: after a mistake nobody else would close it.
  fanfare_sse_connections_method_connection_close(stream);
  return false;
}

bool exports_fanfare_sse_handler_handle(exports_fanfare_sse_handler_own_request_t owned, problem *error) {
  request request = fanfare_sse_requests_borrow_request(owned);
  app_string_t method, path;
  fanfare_sse_requests_method_request_method(request, &method);
  fanfare_sse_requests_method_request_path(request, &path);
  bool get = is(method, "GET");
  if ((get || is(method, "HEAD")) && is(path, "/")) {
    app_list_u8_t body = {(uint8_t *)page, sizeof page};
    return respond(request, 200, body, "text/html; charset=utf-8", NULL, error);
  }
  // OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
  if ((get || is(method, "OPTIONS")) && is(path, "/events")) return events(request, error);
  if (get) return respond_text(request, 404, "not found\n", NULL, error);
  return respond_text(request, 405, "allowed here: GET\n", "GET", error);
}
