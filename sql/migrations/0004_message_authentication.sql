-- SPF, DKIM and DMARC results of a message, written by smtpd a moment after the message itself; a message without a row has not been
-- checked (yet). results: the API's `authentication` object, JSON that is written and read as text. The key goes with the bucket
-- like that of messages, so both lie on one shard, and the row goes with its message whoever deletes that.

create table message_authentication (
	bucket smallint not null,
	id uuid not null,
	results text not null,
	forged boolean not null,
	primary key (bucket, id),
	foreign key (bucket, id) references messages on delete cascade
);
-- step
comment on column message_authentication.forged is 'an Authentication-Results field of the source claims to be ours';
-- step
alter table message_authentication alter results set compression lz4;
-- step
-- smtpd adds rows and cannot read or change them.
grant insert on message_authentication to minutemail_smtpd;
-- step
grant select on message_authentication to minutemail_apid;
