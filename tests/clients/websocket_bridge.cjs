// A WebSocket server in front of a broker, by the package `ws`: what our tools' WebSocket is tested against.
//
//     websocket_bridge.cjs NODE_MODULES BROKER_PORT
//
// Prints its port. It asks for the path /mqtt and the subprotocol mqtt, ends with 3 at a text frame, and cuts what the
// broker says into frames of a thousand bytes, so that packets and frames have nothing to do with each other.

const [, , modules, brokerPort] = process.argv;
const { WebSocketServer } = require(`${modules}/ws`);
const net = require('net');

const server = new WebSocketServer({
  port: 0,
  host: '127.0.0.1',
  path: '/mqtt',
  handleProtocols: (protocols) => (protocols.has('mqtt') ? 'mqtt' : false),
});
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  const broker = net.connect(Number(brokerPort), '127.0.0.1');
  socket.on('message', (data, isBinary) => {
    if (!isBinary) process.exit(3);
    broker.write(data);
  });
  broker.on('data', (data) => {
    for (let at = 0; at < data.length; at += 1000) socket.send(data.subarray(at, at + 1000));
    socket.ping();
  });
  broker.on('close', () => socket.close());
  broker.on('error', () => socket.close());
  socket.on('close', () => broker.end());
});
