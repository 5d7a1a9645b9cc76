-- What somebody began to send: if they died, nobody knows whether it arrived until the stream was asked (shared/outbox.py).

alter table outbox add column sending_since timestamptz;               -- null: nobody has tried since it was last known not to have arrived

create index outbox_begun on outbox (sending_since) where sending_since is not null;   -- served: finding what a dead process left
