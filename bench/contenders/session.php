<?php
session_start();
$_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
header('Content-Type: text/plain; charset=utf-8');
echo "Hello #{$_SESSION['count']}\n";
