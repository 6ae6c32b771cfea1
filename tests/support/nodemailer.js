// Sends with nodemailer the messages that standard input lists as JSON: {host, port, name, ca, messages: [{from, to, source}]}, the
// source in base64. Says on standard output how many it sent.
'use strict';
const nodemailer = require('nodemailer');

async function main() {
	const task = JSON.parse(require('fs').readFileSync(0));
	const transport = nodemailer.createTransport({
		host: '127.0.0.1', port: task.port, name: task.name, requireTLS: true, pool: true, maxConnections: 1,
		tls: { ca: task.ca, servername: task.host },
	});
	for (const message of task.messages) {
		await transport.sendMail({
			envelope: { from: message.from, to: message.to }, raw: Buffer.from(message.source, 'base64'),
		});
	}
	transport.close();
	console.log(task.messages.length);
}

main().catch((error) => {
	console.error(error);
	process.exitCode = 1;
});
