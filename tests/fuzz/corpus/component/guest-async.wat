(component
  (core module $m
    (func (export "start") (result i32) i32.const 0)
    (func (export "callback") (param i32 i32 i32) (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $start async (canon lift (core func $i "start") async (callback (core func $i "callback"))))
  (instance $lifecycle (export "start" (func $start)))
  (instance $handler (export "handle" (func $start)))
  (export "fanfare:sse/lifecycle-async@0.1.0" (instance $lifecycle))
  (export "fanfare:sse/handler-async@0.1.0" (instance $handler)))
