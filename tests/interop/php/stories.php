<?php
/** php-amqplib as an application uses it. Names of stories are arguments; `ok STORY` or `failed STORY: why` is printed. */

require_once 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const PATIENCE = 15;

/** A name that no other test has. */
function named(string $name): string
{
    return getenv('PREFIX') . '-php-' . $name;
}

function same($expected, $actual): void
{
    if ($expected != $actual) {
        throw new RuntimeException(json_encode($actual) . ' instead of ' . json_encode($expected));
    }
}

/** Waits for deliveries until there are so many. */
function wait_for(AMQPChannel $channel, array &$seen, int $count): void
{
    while (count($seen) < $count) {
        $channel->wait(null, false, PATIENCE);
    }
}

function work_queue(AMQPChannel $channel): void
{
    $queue = named('work');
    $channel->queue_declare($queue, false, true, false, false);
    $channel->confirm_select();
    $confirmed = 0;
    $channel->set_ack_handler(function () use (&$confirmed) {
        $confirmed++;
    });
    $headers = ['number' => 7, 'ratio' => 1.5, 'when' => new DateTime('@1700000000'), 'nested' => ['yes' => true, 'none' => null]];
    for ($i = 0; $i < 10; $i++) {
        $properties = ['delivery_mode' => 2, 'content_type' => 'text/plain', 'application_headers' => new AMQPTable($headers)];
        $channel->basic_publish(new AMQPMessage("task $i", $properties), '', $queue);
    }
    $channel->wait_for_pending_acks(PATIENCE);
    same(10, $confirmed);
    $done = [];
    $channel->basic_qos(0, 3, false);
    $channel->basic_consume($queue, '', false, false, false, false, function ($message) use (&$done, $headers) {
        same($headers, $message->get('application_headers')->getNativeData());
        $done[] = $message->getBody();
        $message->ack();
    });
    wait_for($channel, $done, 10);
    same(array_map(fn ($i) => "task $i", range(0, 9)), $done);
    $channel->queue_delete($queue);
}

function topic_exchange(AMQPChannel $channel): void
{
    $exchange = named('topics');
    $channel->exchange_declare($exchange, 'topic', false, false, true);
    [$queue] = $channel->queue_declare('', false, false, true);
    $channel->queue_bind($queue, $exchange, 'orders.*.new');
    foreach (['orders.eu.new', 'orders.eu.old', 'orders.us.new'] as $key) {
        $channel->basic_publish(new AMQPMessage($key), $exchange, $key);
    }
    $seen = [];
    $channel->basic_consume($queue, '', false, true, false, false, function ($message) use (&$seen) {
        $seen[] = $message->getRoutingKey();
    });
    wait_for($channel, $seen, 2);
    same(['orders.eu.new', 'orders.us.new'], $seen);
}

function rpc(AMQPChannel $channel): void
{
    [$requests] = $channel->queue_declare('', false, false, true);
    $channel->basic_consume($requests, '', false, true, false, false, function ($request) use ($channel) {
        $reply = new AMQPMessage(strrev($request->getBody()), ['correlation_id' => $request->get('correlation_id')]);
        $channel->basic_publish($reply, '', $request->get('reply_to'));
    });
    $replies = [];
    $channel->basic_consume('amq.rabbitmq.reply-to', '', false, true, false, false, function ($reply) use (&$replies) {
        $replies[$reply->get('correlation_id')] = $reply->getBody();
    });
    $asked = ['correlation_id' => 'c1', 'reply_to' => 'amq.rabbitmq.reply-to'];
    $channel->basic_publish(new AMQPMessage('abc', $asked), '', $requests);
    wait_for($channel, $replies, 1);
    same(['c1' => 'cba'], $replies);
}

function retry(AMQPChannel $channel): void
{
    [$waiting, $work] = [named('waiting'), named('retried')];
    $channel->queue_declare($work, false, false, true, false, false, new AMQPTable([
        'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $waiting,
    ]));
    $channel->queue_declare($waiting, false, false, true, false, false, new AMQPTable([
        'x-message-ttl' => 50, 'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $work,
    ]));
    $channel->basic_publish(new AMQPMessage('again'), '', $work);
    $counts = [];
    $channel->basic_consume($work, '', false, false, false, false, function ($message) use (&$counts) {
        $headers = $message->has('application_headers') ? $message->get('application_headers')->getNativeData() : [];
        $counts[] = $headers['x-death'][0]['count'] ?? 0;
        count($counts) < 3 ? $message->nack(false) : $message->ack();
    });
    wait_for($channel, $counts, 3);
    same([0, 1, 2], $counts);
}

function returns(AMQPChannel $channel): void
{
    $channel->confirm_select();
    $returned = [];
    $channel->set_return_listener(function ($code, $text, $exchange, $key) use (&$returned) {
        $returned[] = [$code, $text, $key];
    });
    $channel->basic_publish(new AMQPMessage('x'), '', 'nobody', true);
    $channel->wait_for_pending_acks_returns(PATIENCE);
    same([[312, 'NO_ROUTE', 'nobody']], $returned);
}

function transactions(AMQPChannel $channel): void
{
    [$queue] = $channel->queue_declare('', false, false, true);
    $channel->tx_select();
    $channel->basic_publish(new AMQPMessage('no'), '', $queue);
    $channel->tx_rollback();
    $channel->basic_publish(new AMQPMessage('yes'), '', $queue);
    same(null, $channel->basic_get($queue));
    $channel->tx_commit();
    same('yes', $channel->basic_get($queue)->getBody());
}

function errors(AMQPChannel $channel): void
{
    try {
        $channel->queue_declare('nobody-declared-this', true);
    } catch (AMQPProtocolChannelException $error) {
        same(404, $error->amqp_reply_code);
        same("NOT_FOUND - no queue 'nobody-declared-this' in vhost '/'", $error->amqp_reply_text);
        return;
    }
    throw new RuntimeException('it is there');
}

$url = parse_url(getenv('AMQP_URL'));
foreach (array_slice($argv, 1) as $story) {
    $connection = new AMQPStreamConnection($url['host'], $url['port'], $url['user'], $url['pass']);
    try {
        $story($connection->channel());
        echo "ok $story\n";
    } catch (Throwable $error) {
        echo "failed $story: " . str_replace("\n", ' ', (string) $error) . "\n";
    } finally {
        $connection->close();
    }
}
