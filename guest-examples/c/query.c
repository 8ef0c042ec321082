#include "query.h"

#include <stdlib.h>
#include <string.h>

static int hex(uint8_t digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  digit |= 0x20;
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

// How many bytes the first character of the text takes; 0 where it is not UTF-8 (RFC 3629, section 4).
static size_t character(const uint8_t *text, size_t len) {
  uint8_t first = text[0];
  if (first < 0x80) return 1;
  size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || len < size) return 0;
  for (size_t index = 1; index < size; index++)
    if ((text[index] & 0xc0) != 0x80) return 0;
  // No longer form than needed, no surrogates, nothing past U+10FFFF.
  if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) || (first == 0xf0 && text[1] < 0x90) ||
      (first == 0xf4 && text[1] > 0x8f))
    return 0;
  return size;
}

static void *allocate(size_t size) {
  void *memory = malloc(size + 1);
  if (!memory) abort();
  return memory;
}

static app_string_t decode(const uint8_t *text, size_t len) {
  uint8_t *bytes = allocate(len);
  size_t count = 0;
  for (size_t index = 0; index < len; index++) {
    bool code = text[index] == '%' && index + 2 < len && hex(text[index + 1]) >= 0 && hex(text[index + 2]) >= 0;
    bytes[count++] = code ? hex(text[index + 1]) << 4 | hex(text[index + 2]) : text[index] == '+' ? ' ' : text[index];
    if (code) index += 2;
  }
  app_string_t decoded = {allocate(3 * count), 0};
  for (size_t index = 0; index < count;) {
    size_t size = character(bytes + index, count - index);
    memcpy(decoded.ptr + decoded.len, size ? bytes + index : (const uint8_t *)"\xef\xbf\xbd", size ? size : 3);
    decoded.len += size ? size : 3;
    index += size ? size : 1;
  }
  free(bytes);
  return decoded;
}

bool query_value(app_string_t query, const char *name, app_string_t *value) {
  const uint8_t *rest = query.ptr, *end = rest + query.len;
  while (rest < end) {
    const uint8_t *pair_end = memchr(rest, '&', end - rest);
    if (!pair_end) pair_end = end;
    const uint8_t *equals = memchr(rest, '=', pair_end - rest);
    if (!equals) equals = pair_end;
    app_string_t found = decode(rest, equals - rest);
    bool same = found.len == strlen(name) && memcmp(found.ptr, name, found.len) == 0;
    free(found.ptr);
    if (same) {
      const uint8_t *text = equals < pair_end ? equals + 1 : pair_end;
      *value = decode(text, pair_end - text);
      return true;
    }
    rest = pair_end + 1;
  }
  return false;
}
