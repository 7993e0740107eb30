/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of a few dozen bytes in the shape of a bzImage, for machines whose /dev/kvm is
 * too slow for a kernel. It counts; with each count it writes a word into each of 128 pages
 * from 2 MiB on, and now and then it prints the count on the first serial port, as eight
 * hexadecimal digits and a newline. It never stops.
 */
	.code32
	.text
	.globl _start
_start:
	.org 0x1f1
	.byte 1				/* setup sectors, after the first */
	.org 0x1fe
	.word 0xaa55
	.byte 0xeb, 0x66		/* the header ends at 0x268 */
	.ascii "HdrS"
	.word 0x020f
	.org 0x211
	.byte 1				/* loaded high */
	.org 0x214
	.long 0x100000
	.org 0x22c
	.long 0x7fffffff		/* highest initrd address */
	.org 0x238
	.long 255			/* command line */
	.org 0x258
	.quad 0x100000
	.long 8192			/* memory it needs from there */

	.org 0x400			/* at 1 MiB: 32-bit entry, no paging */
	xorl %ebx, %ebx
count:
	incl %ebx
	movl $0x200000, %edi
	movl $128, %ecx
write:
	movl %ebx, (%edi)
	addl $4096, %edi
	loop write
	testb $0x3f, %bl
	jnz count

	movl %ebx, %esi
	movl $8, %ecx
	movw $0x3f8, %dx
digit:
	roll $4, %esi
	movl %esi, %eax
	andb $15, %al
	cmpb $10, %al
	jb 1f
	addb $('a' - '0' - 10), %al
1:	addb $'0', %al
	outb %al, %dx
	loop digit
	movb $'\n', %al
	outb %al, %dx
	jmp count
	.org 0x600
