-- What authentication found out, where it was known when the message was committed: no row, no index and no transaction of its own.
-- What was found out later is in message_authentication, as before; a message has one or the other, or neither (yet).

alter table messages add column authentication text;
-- step
comment on column messages.authentication is 'as message_authentication.results; null: look there. Forged results are in warnings';
-- step
alter table messages alter authentication set compression lz4;
