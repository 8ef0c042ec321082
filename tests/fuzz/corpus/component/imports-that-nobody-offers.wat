(component
  (import "acme:billing/invoices@1.0.0" (instance))
  (import "wasi:keyvalue/store@0.2.0" (instance))
  (import "fanfare:sse/publishing-async@0.1.0" (instance))
  (import "plain" (func)))
