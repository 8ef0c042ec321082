(component
  (import "fanfare:sse/registry@0.1.0" (instance
    (export "has" (func (param "name" string) (result bool)))
    (export "keys" (func (result (list string))))))
  (import "wasi:http/types@0.2.3" (instance $http
    (export "fields" (type $fields (sub resource)))
    (export "[method]fields.get" (func (param "self" (borrow $fields)) (param "name" string) (result (list (list u8)))))))
  (core module $m (func (export "start")))
  (core instance $i (instantiate $m))
  (func $start (canon lift (core func $i "start")))
  (instance $f (export "start" (func $start)))
  (instance $h (export "handle" (func $start)))
  (export "fanfare:sse/lifecycle@0.1.0" (instance $f))
  (export "fanfare:sse/handler@0.1.0" (instance $h)))
