// What client and server share: methods whose messages are bytes, those of test.Echo0 to test.Echo15.
const bytes = {
  requestSerialize: (message) => message,
  requestDeserialize: (message) => message,
  responseSerialize: (message) => message,
  responseDeserialize: (message) => message,
};

export const services = Array.from({ length: 16 }, (_, i) => {
  const method = (name, requestStream, responseStream) =>
    [name, { path: `/test.Echo${i}/${name}`, requestStream, responseStream, ...bytes }];
  return Object.fromEntries([
    method("Unary", false, false),
    method("Where", false, false),
    method("Collect", true, false),
    method("Spread", false, true),
    method("Chat", true, true),
  ]);
});
